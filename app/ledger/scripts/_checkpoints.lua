-- What a checkpoint of a tenant's counters says of holds (docs/decisions/0051); stands behind _common.lua where a script needs it.
--
--   WIN "!based"                  number of the checkpoint that these books were rebuilt from, if they were
--       "!open"                   the holds that were open then, with commas
--       "!checkpoint|<journal>"   number of the last checkpoint that was taken for this journal: books that lack it are
--                                 older than the checkpoint
--       "<field>:n"               number of the last change of the limit of a field

local BASED, OPEN_THEN = '!based', '!open'

-- What a hold had booked, and kept unresolved, at the moment of a checkpoint; nothing where there was none.
local function stood_at(record, number)
  if number == 0 or is_open(record) then return NOTHING, NOTHING end
  if record.number <= number then return booked_at(record), unresolved_of(record) end
  local first = record.first
  if first and first.number <= number then return first.booked, first.unresolved end
  return NOTHING, NOTHING
end
