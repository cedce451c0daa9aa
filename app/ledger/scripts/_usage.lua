-- Who usage is attributed to, for reports; loaded after _common.lua by scripts that need it.

-- "<key>|<model>|<size>" or "" if unknown, the maximum numbers of labels, of end users and of models with parameters per
-- day, the number of labels of this request, then the labels, the end user or "", and "<model>|<parameters>" or "".
local function take_usage()
  local usage = { head = take_optional(take_word, 'usage'), maxima = {}, labels = {} }
  usage.maxima['='] = take_integer('labels of a day')
  usage.maxima['~'] = take_integer('users of a day')
  usage.maxima['!'] = take_integer('parameters of a day')
  for index = 1, take_integer('number of labels') do
    local label = take('label')
    if #label > 1000 then refuse('label', label) end
    usage.labels[index] = label
  end
  usage.user = take_optional(take_word, 'user')
  usage.parameters = take('parameters')
  if #usage.parameters > 1000 then refuse('parameters', usage.parameters) end
  return usage
end

local function take_row()
  local row = {}
  for column = 1, COLUMNS do row[column] = take_integer('number of a row') end
  return row
end

-- The number of parts of a row, then for each the service tier and its own row.
local function take_parts()
  local parts = {}
  for index = 1, take_integer('number of parts') do
    parts[index] = { tier = take_word('tier'), numbers = take_row() }
  end
  return parts
end

-- Counts a row for the key, model and size, its parts by tier, and once more for each label, for the end user and for the
-- parameters; notes that the key was served.
local function count_used(usage, at, now, whole, parts)
  if not usage.head then return count_usage(day_of(at), { { UNATTRIBUTED, whole } }) end
  local rows = { { usage.head, whole } }
  for _, part in ipairs(parts) do rows[#rows + 1] = { usage.head .. '|' .. part.tier, part.numbers } end
  for _, label in ipairs(usage.labels) do rows[#rows + 1] = { '=|' .. label, whole, '=' } end
  if usage.user then rows[#rows + 1] = { '~|' .. usage.user, whole, '~' } end
  if usage.parameters ~= '' then rows[#rows + 1] = { '!|' .. usage.parameters, whole, '!' } end
  count_usage(day_of(at), rows, usage.maxima)
  local key = '@' .. string.match(usage.head, '^[^|]+')
  redis.call('HSET', USE, key, text(now))
  redis.call('ZADD', GC, text(now + usage_keep), 'u;' .. key)
end
