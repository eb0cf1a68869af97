// @odata/client: typed sets, its own filters, OAuth2 client credentials.
import assert from 'node:assert/strict'
import { OData, EdmV4 } from '@odata/client'
import { properties, keys } from './data.mjs'

const { URL: root, CLIENT: clientId, SECRET: clientSecret } = process.env
const newClient = (tokenRetrieveType) => OData.New4({
  serviceEndpoint: `${root}/odata/`,
  credential: { tokenUrl: `${root}/oauth/token`, clientId, clientSecret, tokenRetrieveType },
})
const client = newClient('header')
const set = client.getEntitySet('Property')

// One record, by its key.
const one = await set.retrieve('P0001')
assert.equal(one.City, "O'Fallon")
assert.equal(one.ListPrice, 101000.5)
assert.equal((await set.retrieve("O''Neil/7")).ListingKey, "O'Neil/7") // it quotes nothing itself
await assert.rejects(set.retrieve('absent'), /absent/)

// What its filters say; several values of one field are an or.
const options = () => client.newOptions().format('json').top(1000)
const same = async (filter, expected) => assert.deepEqual(keys(await set.query(options().filter(filter))), keys(properties.filter(expected)))
await same(client.newFilter().property('StandardStatus').eq('Active').property('BedroomsTotal').ge(3), (p) => p.StandardStatus === 'Active' && p.BedroomsTotal >= 3)
await same(client.newFilter().property('StandardStatus').in(['Active', 'Closed']), (p) => p.StandardStatus !== 'Pending')
await same(client.newFilter().property('ListPrice').between(110000, 120000.5), (p) => p.ListPrice >= 110000 && p.ListPrice <= 120000.5)
await same(client.newFilter().property('InternetEntireListingDisplayYN').eq(true), (p) => p.InternetEntireListingDisplayYN)
await same(client.newFilter().property('CloseDate').eq(null), (p) => p.CloseDate === null)
await same(client.newFilter().property("contains(City,'Spring')").eq(true), (p) => p.City.includes('Spring'))
const [from, to] = [new Date('2026-01-03T00:00:00Z'), new Date('2026-01-05T00:00:00.250Z')]
await same(
  client.newFilter().property('ModificationTimestamp').between(EdmV4.DateTimeOffset.from(from), EdmV4.DateTimeOffset.from(to)),
  (p) => new Date(p.ModificationTimestamp) >= from && new Date(p.ModificationTimestamp) <= to,
)
assert.equal((await set.find({ City: 'Springfield', BedroomsTotal: 0 })).length, properties.filter((p) => p.City === 'Springfield' && p.BedroomsTotal === 0).length)

// Parts, order, what belongs to it, and how many.
const part = await set.query(client.newOptions().select(['ListingKey', 'ListPrice']).orderby('ListPrice', 'desc').top(3))
assert.deepEqual(part.map((p) => [p.ListingKey, p.ListPrice]), [249, 248, 247].map((i) => [`P0${i}`, 100000.5 + i * 1000]))
const sorted = await set.query(client.newOptions().orderbyMulti([{ field: 'StandardStatus', order: 'asc' }, { field: 'ListPrice', order: 'desc' }]).top(1))
assert.equal(sorted[0].ListingKey, 'P0249')
const [wide] = await set.query(client.newOptions().filter("ListingKey eq 'P0002'").expand(['Media', 'ListAgent']))
assert.equal(wide.Media.length, 5)
assert.equal(wide.ListAgent.MemberFullName, 'Agent 2')
assert.equal(await set.count(), 250)
assert.equal(await set.count({ StandardStatus: 'Active' }), 84)
assert.equal(await set.count(client.newFilter().property('ListPrice').gt(300000)), properties.filter((p) => p.ListPrice > 300000).length)

// Pages by $skip, and by nextLink.
const seen = []
for (let skip = 0; ; skip += 90) {
  const page = await set.query(client.newOptions().orderby('ListingKey', 'asc').top(90).skip(skip))
  seen.push(...page)
  if (page.length < 90) break
}
assert.deepEqual(keys(seen), keys(properties))
const followed = []
for (let page = await client.newRequest({ collection: 'Property' }); ; page = await client.requestUri(page['@odata.nextLink'])) {
  followed.push(...page.value)
  if (!page['@odata.nextLink']) break
}
assert.deepEqual(keys(followed), keys(properties))

// Writing, with the credentials in the body this time.
const writer = newClient('form').getEntitySet('Property')
const made = await writer.create({ ListingKey: 'odata-client', ListPrice: 1, City: 'Springfield' })
assert.equal(made.ListingKey, 'odata-client')
assert.ok(made['@odata.etag'])
await assert.rejects(writer.create({ ListingKey: 'odata-client' }))
await assert.rejects(writer.create({ ListPrice: 'much' }), /ListPrice/)
await writer.update('odata-client', { ListPrice: 2 })
assert.equal((await writer.retrieve('odata-client')).ListPrice, 2)
await writer.delete('odata-client')
await assert.rejects(writer.retrieve('odata-client'))
console.log('done')
