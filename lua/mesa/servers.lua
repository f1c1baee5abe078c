--- The servers of this program, in the order of their creation.
return {}
