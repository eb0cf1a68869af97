// odata-query: builds URLs from objects; what it can write must be read.
import assert from 'node:assert/strict'
import buildQuery, { ITEM_ROOT } from 'odata-query'
import { properties, media, keys } from './data.mjs'

const { URL: root, TOKEN: token } = process.env
async function ask(path) {
  const answer = await fetch(`${root}/odata/${path}`, { headers: { Authorization: `Bearer ${token}` } })
  const body = answer.headers.get('content-type')?.startsWith('application/json') ? await answer.json() : await answer.text()
  assert.equal(answer.status, 200, `${path}: ${JSON.stringify(body)}`)
  return body
}
const same = async (filter, expected) => {
  const path = 'Property' + buildQuery({ filter, top: 1000 })
  assert.deepEqual(keys((await ask(path)).value), keys(properties.filter(expected)), path)
}
const day = (text) => new Date(text)
const at = (p) => day(p.ModificationTimestamp)

await same({ BedroomsTotal: 3 }, (p) => p.BedroomsTotal === 3)
await same({ ListPrice: { gt: 200000.5, le: 210000.5 } }, (p) => p.ListPrice > 200000.5 && p.ListPrice <= 210000.5)
await same({ City: "O'Fallon" }, (p) => p.City === "O'Fallon")
await same({ City: 'Shelbyville & Sons' }, (p) => p.City === 'Shelbyville & Sons')
await same({ City: 'São Tomé' }, (p) => p.City === 'São Tomé')
await same({ CloseDate: null }, (p) => p.CloseDate === null)
await same({ CloseDate: { ne: null } }, (p) => p.CloseDate !== null)
await same({ InternetEntireListingDisplayYN: false }, (p) => !p.InternetEntireListingDisplayYN)
await same([{ StandardStatus: 'Active' }, { BedroomsTotal: { lt: 2 } }], (p) => p.StandardStatus === 'Active' && p.BedroomsTotal < 2)
await same({ and: [{ StandardStatus: 'Active' }, { or: [{ BedroomsTotal: 1 }, { BedroomsTotal: 4 }] }] }, (p) => p.StandardStatus === 'Active' && [1, 4].includes(p.BedroomsTotal))
await same({ not: { and: [{ StandardStatus: 'Active' }, { BedroomsTotal: 1 }] } }, (p) => !(p.StandardStatus === 'Active' && p.BedroomsTotal === 1))
await same({ not: { or: [{ StandardStatus: 'Active' }, { StandardStatus: 'Closed' }] } }, (p) => p.StandardStatus === 'Pending')
await same({ ListingKey: { in: ['P0001', 'P0002', "O'Neil/7", 'none'] } }, (p) => ['P0001', 'P0002', "O'Neil/7"].includes(p.ListingKey))
await same({ ListingKey: { in: properties.slice(0, 120).map((p) => p.ListingKey) } }, (p) => properties.indexOf(p) < 120)
await same({ BedroomsTotal: { in: [1, 2] } }, (p) => [1, 2].includes(p.BedroomsTotal))
await same({ City: { contains: 'field' } }, (p) => p.City.includes('field'))
await same({ City: { startswith: 'S' } }, (p) => p.City.startsWith('S'))
await same({ City: { endswith: 'Sons' } }, (p) => p.City.endsWith('Sons'))
await same({ not: { City: { contains: 'field' } } }, (p) => !p.City.includes('field'))
await same({ 'tolower(City)': "o'fallon" }, (p) => p.City === "O'Fallon")
await same({ 'toupper(City)': { ne: 'SPRINGFIELD' } }, (p) => p.City !== 'Springfield')
await same({ ModificationTimestamp: { ge: day('2026-01-03T00:00:00Z'), le: day('2026-01-05T00:00:00.250Z') } }, (p) => at(p) >= day('2026-01-03') && at(p) <= day('2026-01-05T00:00:00.250Z'))
await same({ ListingContractDate: { gt: { type: 'raw', value: '2026-01-20' } } }, (p) => p.ListingContractDate > '2026-01-20')
await same({ SourceSystemGuid: { type: 'guid', value: properties[5].SourceSystemGuid.toUpperCase() } }, (p) => p === properties[5])
await same({ PropertyType: 'Land' }, (p) => p.PropertyType === 'Land')
await same({ PropertyType: { type: 'raw', value: "org.reso.metadata.enums.PropertyType'Land'" } }, (p) => p.PropertyType === 'Land')
await same({ PropertyType: { in: ['Land', 'Farm'] } }, (p) => ['Land', 'Farm'].includes(p.PropertyType))
await same({ Appliances: { any: { [ITEM_ROOT]: 'Dishwasher' } } }, (p) => p.Appliances.includes('Dishwasher'))
await same({ Appliances: { any: { [ITEM_ROOT]: { in: ['Dishwasher', 'Oven'] } } } }, (p) => p.Appliances.length > 0)
await same({ Appliances: { any: { or: [{ [ITEM_ROOT]: 'Dishwasher' }, { [ITEM_ROOT]: 'Kettle' }] } } }, (p) => p.Appliances.includes('Dishwasher'))
await same({ Appliances: { any: { [`tolower(${ITEM_ROOT})`]: 'dishwasher' } } }, (p) => p.Appliances.includes('Dishwasher'))
await same({ Appliances: { all: { [ITEM_ROOT]: 'Oven' } } }, (p) => p.Appliances.every((a) => a === 'Oven'))
await same({ Appliances: { any: {} } }, (p) => p.Appliances.length > 0)
await same("(StandardStatus EQ 'Active' OR BedroomsTotal GE 4) AND NOT (City IN ('Springfield'))", (p) => (p.StandardStatus === 'Active' || p.BedroomsTotal >= 4) && p.City !== 'Springfield')

const part = await ask('Property' + buildQuery({ select: ['ListingKey', 'City'], orderBy: ['City desc', 'ListPrice'], filter: { BedroomsTotal: 0 }, count: true, top: 2, skip: 1 }))
const expected = properties.filter((p) => p.BedroomsTotal === 0)
assert.equal(part['@odata.count'], expected.length)
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0)
expected.sort((a, b) => compare(b.City, a.City) || a.ListPrice - b.ListPrice)
assert.deepEqual(part.value.map(({ ListingKey, City }) => ({ ListingKey, City })), expected.slice(1, 3).map(({ ListingKey, City }) => ({ ListingKey, City })))
assert.equal(await ask('Property' + buildQuery({ count: { StandardStatus: 'Pending' } })), '83')
assert.equal((await ask('Property' + buildQuery({ key: 'P0001' }))).ListingKey, 'P0001')
const [wide] = (await ask('Property' + buildQuery({ filter: { ListingKey: 'P0001' }, expand: { Media: { select: ['MediaKey', 'Order'], filter: { Order: { ge: 2 } }, orderBy: 'Order desc', top: 2 }, ListAgent: {} } }))).value
assert.deepEqual(wide.Media.map((m) => m.MediaKey), media.filter((m) => m.ResourceRecordKey === 'P0001' && m.Order >= 2).reverse().slice(0, 2).map((m) => m.MediaKey))
assert.equal(wide.ListAgent.MemberKey, 'M1')
const [two] = (await ask('Property' + buildQuery({ filter: { ListingKey: 'P0001' }, expand: ['Media', 'ListAgent'] }))).value
assert.equal(two.Media.length, 5)

const seen = []
for (let page = await ask('Property' + buildQuery({ filter: { ListPrice: { gt: 120000 } }, orderBy: 'StandardStatus desc' })); ; page = await ask(page['@odata.nextLink'].slice(`${root}/odata/`.length))) {
  seen.push(...page.value)
  if (!page['@odata.nextLink']) break
}
assert.equal(new Set(keys(seen)).size, seen.length)
assert.deepEqual(keys(seen), keys(properties.filter((p) => p.ListPrice > 120000)))
assert.deepEqual(seen.map((p) => p.StandardStatus), properties.filter((p) => p.ListPrice > 120000).map((p) => p.StandardStatus).sort().reverse())
console.log('done')
