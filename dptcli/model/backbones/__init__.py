"""What turns an image into feature maps, a file each, and the class that chooses one."""
