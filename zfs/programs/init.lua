-- Makes an existing dataset a site. The format is set last: without it the dataset is not a site.
if not zfs.exists(S) then return no("no-site", S) end
local v, s = zfs.get_prop(S, "ezz:format")
if v then
  if s == "$recvd" then s = S end
  return no("present", s)
end
E = "1"
return put(S, "ezz:id", a.id) or put(S, "ezz:seq", "0") or put(S, "ezz:epoch", E)
  or put(S, "ezz:format", "1") or ok()
