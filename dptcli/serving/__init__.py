"""A model kept warm: images come over HTTP, results go back.

    request -> upload -> desk: readers -> batches for the network -> writers -> answer

What a request asks for is read by whoever starts the server (`orders.ReadOrder`): the options are
the command line's own.
"""
