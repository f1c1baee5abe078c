--- The portals of this program that are open.
return {}
