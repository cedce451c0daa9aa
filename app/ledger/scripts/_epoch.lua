-- Whether this is the ledger that the caller knows (docs/reliability.md R22); loaded after _common.lua by scripts that
-- need it.
--
--   WIN "!epoch"  "<name>;<open_ms>": lost with the counters, so a process that knew the name notices the loss. Until
--                 open_ms nothing is admitted; by then every replica has restored what it knows.
--                 If it is more than CLOSED_MAX_MS away, the clock was set back, and it is ignored.

local EPOCH = '!epoch'
local CLOSED_MAX_MS = 60000

-- "forgotten" and the epoch, or "closed" and the ms to wait, if nothing may be reserved now; else nil and the name.
local function check_epoch(known, now)
  local raw = redis.call('HGET', WIN, EPOCH)
  local name, open = string.match(raw or '', '^([^;]+);(%d+)$')
  if known and known ~= name then return 'forgotten', name or '' end
  local left = tonumber(open or '0') - now
  if left > 0 and left <= CLOSED_MAX_MS then return 'closed', text(left) end
  return nil, name
end
