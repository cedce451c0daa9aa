-- Whether these are the books that the caller knows (reliability.md R22); stands behind _common.lua where a
-- script needs it.
--
--   WIN "!epoch"  "<name>;<open_ms>": lost with the counters, so a process that knew the name learns of the loss.
--                 Until open_ms nothing is admitted: by then every replica has put back what it knows.

local EPOCH = '!epoch'

-- "forgotten" or "closed" where nothing may be reserved now, with the epoch or the ms to wait; else the name.
local function check_epoch(known, now)
  local found = redis.call('HGET', WIN, EPOCH)
  local name, open = string.match(found or '', '^([^;]+);(%d+)$')
  if known and known ~= name then return 'forgotten', name or '' end
  if open and now < tonumber(open) then return 'closed', text(tonumber(open) - now) end
  return nil, name
end
