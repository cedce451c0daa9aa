-- Numbers and time: loaded first in every ledger script, after UNITS, the number of units.

local function text(number)
  if number == 0 then return '0' end -- a negative zero would print as "-0", which HINCRBY refuses
  return string.format('%.0f', number)
end

local function server_now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function numbers(csv)
  local list = {}
  for digits in string.gmatch(csv, '%d+') do list[#list + 1] = tonumber(digits) end
  return list
end

local function csv(amounts)
  local parts = {}
  for index, amount in ipairs(amounts) do parts[index] = text(amount) end
  return table.concat(parts, ',')
end

-- Parses amounts; units that were added later get 0.
local function amounts_of(text)
  local amounts = numbers(text)
  if #amounts == 0 then return amounts end
  for unit = #amounts + 1, UNITS do amounts[unit] = 0 end
  return amounts
end
