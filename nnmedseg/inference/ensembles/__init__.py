"""Several predictions of one image made one."""
