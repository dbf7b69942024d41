"""Every parser of bytes that others wrote: whatever comes, it is read or refused with the error that is documented."""
