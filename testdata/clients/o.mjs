// o.js: a thin layer over fetch, which encodes every option, its name too.
import assert from 'node:assert/strict'
import ojs from 'o.js'
import buildQuery from 'odata-query'
import { properties, media, keys } from './data.mjs'

const { URL: root, TOKEN: token } = process.env
const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` }
const service = () => ojs.o('', { rootUrl: `${root}/odata/`, headers })

assert.ok((await service().get().query()).some((set) => set.name === 'Property'))
const metadata = await service().get('$metadata').fetch()
assert.match(await metadata.text(), /<EntityType Name="Property"/)

const one = await service().get("Property('P0001')").query({ $select: 'ListingKey,City' })
assert.deepEqual([one.ListingKey, one.City, one.ListPrice], ['P0001', "O'Fallon", undefined])
await assert.rejects(service().get("Property('absent')").query(), (answer) => answer.status === 404)

const found = await service().get('Property').query({ $filter: "City eq 'O''Fallon' and BedroomsTotal gt 2", $orderby: 'ListPrice desc', $top: 1000 })
assert.deepEqual(found, properties.filter((p) => p.City === "O'Fallon" && p.BedroomsTotal > 2).reverse().map((p, i) => ({ ...found[i], ...p })))
const built = await service().get('Property' + buildQuery({ filter: { City: 'Shelbyville & Sons' }, select: ['ListingKey'], top: 1000 })).query()
assert.deepEqual(keys(built), keys(properties.filter((p) => p.City === 'Shelbyville & Sons')))
assert.deepEqual(await service().get('Property').query({ $filter: "City eq 'Nowhere'" }), [])
const refused = await service().get('Property').query({ $filter: 'Cty eq 1' }).catch((answer) => answer)
assert.deepEqual([refused.status, (await refused.json()).error.target], [400, '$filter'])

const [wide] = await service().get('Property').query({ $filter: "ListingKey eq 'P0002'", $expand: 'Media($select=MediaKey;$orderby=Order desc;$top=2),ListAgent($select=MemberFullName)' })
assert.deepEqual(wide.Media.map((m) => m.MediaKey), ['X14', 'X13'])
assert.equal(wide.ListAgent.MemberFullName, 'Agent 2')
assert.equal((await service().get("Property('P0003')/Media").query()).length, media.filter((m) => m.ResourceRecordKey === 'P0003').length)
assert.equal((await service().get("Property('P0003')/ListAgent").query()).MemberKey, 'M0')

const counted = await (await service().get('Property').fetch({ $count: true, $top: 0 })).json()
assert.deepEqual([counted['@odata.count'], counted.value], [250, []])
assert.equal(await (await service().get('Property/$count').fetch({ $filter: "StandardStatus eq 'Active'" })).text(), '84')

const seen = []
for (let next = `${root}/odata/Property?$select=ListingKey`; next; ) {
  const page = await (await service().request(new ojs.ORequest(next, { headers })).fetch()).json()
  seen.push(...page.value)
  next = page['@odata.nextLink']
}
assert.deepEqual(keys(seen), keys(properties))

const made = await service().post('Property', { ListPrice: 1, City: 'Springfield' }).query() // without its key
assert.match(made.ListingKey, /^[0-9a-f-]{36}$/)
const path = `Property('${made.ListingKey}')`
assert.equal((await service().patch(path, { ListPrice: 2 }).query()).status, 204)
assert.equal((await service().get(path).query()).ListPrice, 2)
assert.equal((await service().put(path, { ListPrice: 3 }).query()).status, 204)
assert.equal((await service().get(path).query()).City, undefined)
assert.equal((await service().delete(path).query()).status, 204)
await assert.rejects(service().get(path).query(), (answer) => answer.status === 404)
console.log('done')
