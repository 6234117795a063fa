/** A program without types that misspells a name of a message is told so: left out, a misspelt filter would match everything. */
import { create } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { EntryKeySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type Client, connect, type RegistrationEvent } from "../../src/client/index.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

async function setUp(): Promise<{ readonly server: FakeDiscovery; readonly client: Client }> {
  const server = new FakeDiscovery();
  await server.start();
  const client = connect({ servers: [server.address], findServers: false });
  opened.push(client, { close: () => server.stop() });
  return { server, client };
}

const key = { namespace: "svc", name: "web", instanceId: "1" };
const read = async (items: AsyncIterable<unknown>) => {
  for await (const item of items) expect(item).toBeDefined();
};
const LISTED = /the fields are .*namespace/;

test.each([
  {
    what: "a call",
    begin: ({ discovery }: Client) => discovery.catalogQuery({ namepsace: "svc" } as never),
    field: "namepsace",
    says: LISTED,
  },
  {
    what: "a query",
    begin: (client: Client) => read(client.query({ nmes: ["web"] } as never)),
    field: "nmes",
    says: LISTED,
  },
  {
    what: "a watch",
    begin: (client: Client) => client.watch({ namespace_prefix: "svc" } as never),
    field: "namespace_prefix",
    says: LISTED,
  },
  {
    what: "an entry",
    begin: (client: Client) => client.register([{ key, tag: ["blue"] } as never]),
    field: "tag",
    says: /Entry; the fields are key/,
  },
  {
    what: "its key",
    begin: (client: Client) => client.register([{ key: { ...key, instance: "1" } } as never]),
    field: "key.instance",
    says: /EntryKey/,
  },
  {
    what: "one of a list",
    begin: (client: Client) => client.register([{ key, targets: [{ host: "h" }, { host: "h", prot: 1 }] } as never]),
    field: "targets[1].prot",
    says: /Target/,
  },
  {
    what: "a detail that is not in its oneof",
    begin: (client: Client) => client.register([{ key, queue: {} } as never]),
    field: "queue",
    says: /set it as detail: \{ case: "queue", value \}/,
  },
  {
    what: "a field of a detail",
    begin: (client: Client) => client.register([{ key, detail: { case: "queue", value: { size: 1 } } } as never]),
    field: "queue.size",
    says: /QueueDetail/,
  },
])("$what with a name that is no field is refused before it is sent", async ({ begin, field, says }) => {
  const { server, client } = await setUp();
  const facts = { code: "INVALID_ARGUMENT", violations: [{ field, description: expect.stringMatching(says) as string }] };
  await expect(begin(client)).rejects.toMatchObject({ message: expect.stringContaining(`${field}: is not a field of`) as string, facts });
  expect([server.calls, server.watchRequests]).toEqual([[], []]);
});

test("a report with a name that is no field is told as refused, and an update with one changes nothing", async () => {
  const { server, client } = await setUp();
  const events: RegistrationEvent[] = [];
  const handle = await client.register([{ key }], { onEvent: (event) => void events.push(event) });
  handle.report({ load: { utilisation: 0.5 } } as never);
  expect(events.at(-1)).toMatchObject({ kind: "reportRefused", error: { message: expect.stringContaining("load.utilisation") as string } });
  handle.report({ load: { utilization: 0.5 } }, "2");
  expect(events.at(-1)).toMatchObject({
    kind: "reportRefused",
    error: { message: 'this registration has no entry with the instance id "2"' },
  });
  await expect(handle.update([{ key, tag: ["blue"] } as never])).rejects.toThrow("tag: is not a field of Entry");
  expect(server.callsOf("register")).toHaveLength(1);
});

test("what is undefined is absent, and messages and durations are taken as they are", async () => {
  const { server, client } = await setUp();
  const request = { namespace: "svc", nothing: undefined, maxStaleness: { seconds: 1n, nanos: 0 } };
  await client.discovery.catalogQuery(request);
  await client.register([{ key: create(EntryKeySchema, key), metadata: { any: "value" } }]);
  expect([server.callsOf("catalogQuery"), server.callsOf("register")].map(({ length }) => length)).toEqual([1, 1]);
});
