"""XMP as cameras and stitching programs write it beside panoramas."""

NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"


def xmp(*, as_elements=False, prefix="GPano", **values):
    """A packet of XMP with GPano's values, as attributes or as elements."""
    values = {"ProjectionType": "equirectangular", **values}
    inner = attributes = ""
    if as_elements:
        inner = "".join(f"<{prefix}:{name}>{v}</{prefix}:{name}>" for name, v in values.items())
    else:
        attributes = "".join(f' {prefix}:{name}="{value}"' for name, value in values.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'rdf:about="" xmlns:{prefix}="{NAMESPACE}"{attributes}>{inner}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def part(whole_hw, part_hw, *, top=0, left=0):
    """GPano's values of a part of a panorama."""
    return {
        "FullPanoHeightPixels": whole_hw[0],
        "FullPanoWidthPixels": whole_hw[1],
        "CroppedAreaImageHeightPixels": part_hw[0],
        "CroppedAreaImageWidthPixels": part_hw[1],
        "CroppedAreaTopPixels": top,
        "CroppedAreaLeftPixels": left,
    }
