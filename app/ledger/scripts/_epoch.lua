-- Whether this is the ledger that the caller knows (docs/reliability.md R22); stands behind _common.lua where
-- a script needs it.
--
--   WIN "!epoch"  "<name>;<open_ms>": lost with the counters, so a process that knew the name learns of the loss.
--                 Until open_ms nothing is admitted: by then every replica has put back what it knows.
--                 It is never far away; where it seems so the clock was set back, and nobody waits for that.

local EPOCH = '!epoch'
local CLOSED_MAX_MS = 60000

-- "forgotten" or "closed" where nothing may be reserved now, with the epoch or the ms to wait; else the name.
local function check_epoch(known, now)
  local found = redis.call('HGET', WIN, EPOCH)
  local name, open = string.match(found or '', '^([^;]+);(%d+)$')
  if known and known ~= name then return 'forgotten', name or '' end
  local left = tonumber(open or '0') - now
  if left > 0 and left <= CLOSED_MAX_MS then return 'closed', text(left) end
  return nil, name
end
