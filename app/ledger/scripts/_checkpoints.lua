-- What a checkpoint of a tenant's counters contains of holds (docs/decisions/0051); loaded after _common.lua.
--
--   WIN "!based"                  number of the checkpoint that this ledger was rebuilt from, if any
--       "!open"                   the holds that were open in it, separated by commas
--       "!checkpoint|<journal>"   number of the last checkpoint for this journal: a ledger without it is older than
--                                 that checkpoint
--       "<field>:n"               number of the last change of the limit of a field

local BASED, OPEN_THEN = '!based', '!open'

-- What a hold had booked and kept unresolved at the time of a checkpoint; NOTHING if it was not booked then.
local function stood_at(record, number)
  if number == 0 or is_open(record) then return NOTHING, NOTHING end
  if record.number <= number then return booked_at(record), unresolved_of(record) end
  local first = record.first
  if first and first.number <= number then return first.booked, first.unresolved end
  return NOTHING, NOTHING
end
