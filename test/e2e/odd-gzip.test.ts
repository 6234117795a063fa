/** gzip that is not one message and nothing else: what is refused, and what is said of it. */
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import { INFLATION_LIMITS } from "../../src/grpc/wire/inflation-budget.ts";
import { startDemoEdge } from "../fakes/edge.ts";
import { slowGzip } from "../fakes/slow-gzip.ts";

const QUERY = '{"namespace":"svc"}';
const empty = gzipSync("");
const whole = gzipSync(QUERY);
const junk = (...bytes: readonly number[]) => Buffer.concat([whole, Buffer.from(bytes)]);

test.each([
  { what: "two letters behind it", body: Buffer.concat([gzipSync("{}"), Buffer.from("xx")]), why: "bytes cannot inflate to the" },
  { what: "four zeros behind it", body: junk(0, 0, 0, 0), why: "inflates to more than the 0 bytes that its trailer declares" },
  { what: "a small number behind it", body: junk(0, 100, 0, 0, 0), why: "inflates to 19 bytes, but its trailer declares 100" },
  { what: "what begins no member behind it", body: junk(100, 0, 0, 0), why: "it is corrupt, truncated, or followed by other bytes" },
  {
    what: "a number behind more than is inflated at once",
    body: behindLarge(),
    why: "inflates to 20000 bytes, but its trailer declares 30000",
  },
  { what: "a second member", body: Buffer.concat([gzipSync('{"namespace":'), gzipSync('"svc"}')]), why: "several gzip members" },
  { what: "much that becomes nothing", body: slowGzip(100_000, 0), why: "but its trailer declares only 0 inflated bytes" },
  { what: "an empty second member", body: Buffer.concat([whole, empty]), why: "several gzip members" },
])("gzip with $what is refused for what it is", async ({ body, why }) => {
  await using served = await startDemoEdge();
  const { status, text } = await asked(served.base, body);
  expect(text).toContain(why);
  expect(status).toBe(400);
});

test("gzip that inflates to more than a message may be is refused with both lengths", async () => {
  await using served = await startDemoEdge();
  const { status, text } = await asked(served.base, gzipSync(Buffer.alloc(5_000_000)));
  expect([status, text]).toEqual([
    429,
    expect.stringContaining("the limit is 4194304 bytes, and this message declares 5000000 bytes after inflation") as unknown,
  ]);
});

test("an empty member before the message changes nothing", async () => {
  await using served = await startDemoEdge();
  expect(await asked(served.base, Buffer.concat([empty, whole]))).toMatchObject({ status: 200 });
});

test("gzip that takes long to read is refused beyond what may come, whatever it becomes, and small messages are read", async () => {
  const inflater = new SharedInflater({ ...INFLATION_LIMITS, workPerSecond: 1, workBurstBytes: 50_000, waitMs: 50 });
  await using served = await startDemoEdge({ listener: { inflater } });
  const slow = slowGzip(40_000, 48);
  const statuses = [];
  for (const body of [slow, slow, whole]) statuses.push((await asked(served.base, body)).status);
  expect(statuses).toEqual([400, 429, 200]);
});

function behindLarge(): Buffer {
  const number = Buffer.alloc(5);
  number.writeUInt32LE(30_000, 1);
  return Buffer.concat([gzipSync(" ".repeat(20_000)), number]);
}

async function asked(base: string, body: Uint8Array): Promise<{ readonly status: number; readonly text: string }> {
  const headers = { "content-type": "application/json", "content-encoding": "gzip" };
  const answer = await fetch(`${base}/waymark.discovery.v1.DiscoveryService/CatalogQuery`, {
    method: "POST",
    body: new Uint8Array(body),
    headers,
  });
  return { status: answer.status, text: await answer.text() };
}
