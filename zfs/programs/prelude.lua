-- The parts that all programs share: the input, the epoch, the undo list, the replies. A step returns nil if it
-- succeeded, and otherwise the reply to end with, so that a program reads `return step() or step() or ok()`. The
-- contract is in CONTRACT.md.
local a = ...
local S, U, E = a.site, {}, nil

-- Returns the value that is set on ds itself; while a replica is adopted, also a received value.
local function own(ds, p)
  local v, s = zfs.get_prop(ds, p)
  if s == ds or a.adopt and s == "$recvd" then return v end
end

-- Whether a property differs from the expectation: "=VALUE" is exactly that value, "-" not set, "*" anything.
local function differs(ds, p, x)
  if x == "*" then return false end
  local v = own(ds, p)
  if x == "-" then return v ~= nil end
  return v ~= string.sub(x, 2)
end

local function no(why, ds, e, p)
  return {status = "refused", why = why, ds = ds, errno = e, prop = p}
end

local function stale()
  if not zfs.exists(S) then return no("no-site", S) end
  local e = own(S, "ezz:epoch")
  if not e then return no("no-epoch", S) end
  if e ~= a.epoch then return {status = "stale", epoch = e} end
  E = tostring(tonumber(e) + 1)
end

-- Runs the undo list backwards. A call gets exactly its arguments: one more, even nil, would be an error.
local function back(why, ds, e, p)
  local bad
  for i = #U, 1, -1 do
    local u = U[i]
    local r = u[1](table.unpack(u, 2))
    if r ~= 0 then
      bad = bad or {}
      bad[u[2] .. " " .. (u[3] or "")] = r
    end
  end
  return {status = "failed", why = why, ds = ds, errno = e, prop = p, undo = bad}
end

local function later(...)
  U[#U + 1] = {...}
end

-- Sets a user property; without a value the property is inherited.
local function put(ds, p, v)
  local o, e = own(ds, p), 0
  if v then e = zfs.sync.set_prop(ds, p, v) else e = zfs.sync.inherit(ds, p) end
  if e ~= 0 then return back("set", ds, e, p) end
  if o then later(zfs.sync.set_prop, ds, p, o) else later(zfs.sync.inherit, ds, p) end
end

-- Sets a user property to "=VALUE"; "-" inherits it.
local function change(ds, p, v)
  if v == "-" then return put(ds, p) end
  return put(ds, p, string.sub(v, 2))
end

local function raise()
  return put(S, "ezz:epoch", E)
end

local function ok(n)
  return {status = "ok", epoch = E, number = n}
end

-- Returns why a file system cannot be destroyed although nothing depends on it; EBUSY means a mount. A file system's
-- own snapshots give EBUSY, too. Then a rollback, which only a mount prevents, shows which it is.
local function busy(ds)
  local e = zfs.check.destroy(ds)
  if e == 0 then return nil end
  for _ in zfs.list.snapshots(ds) do
    e = zfs.check.rollback(ds)
    if e == EBUSY then return e end
    return nil
  end
  return e
end
