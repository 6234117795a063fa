/** Limits and quotas of a real node, through its listeners. */
import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { type LimitedNode, outcomeOf, registration, startLimitedNode } from "../fakes/limited-node.ts";
import { until } from "../fakes/until.ts";

const DISCOVERY = "/waymark.discovery.v1.DiscoveryService";
const POLICY = "/waymark.policy.v1.PolicyService";

/** Reads of one caller until it is refused; `ask` makes the i-th. */
async function readsUntilRefused(ask: (i: number) => Promise<unknown>, max = 500) {
  for (let i = 0; i < max; i++) {
    const outcome = await outcomeOf(ask(i));
    if (outcome.reason !== "ok") return { count: i, outcome };
  }
  throw new Error(`${max} reads and no refusal`);
}

interface AuditRecord {
  readonly reason: string;
  readonly tenant?: string;
  readonly action: string;
  readonly detail?: string;
}

async function auditOf(node: LimitedNode, reason: string): Promise<readonly AuditRecord[]> {
  const answer = await node.post("operator", `${POLICY}/AccessAudit`, { reason });
  const { records } = (await answer.json()) as { records?: AuditRecord[] };
  return records ?? [];
}

/** Status of one DNS query over TCP, where its sender is known. */
async function dnsStatus(port: string): Promise<string | undefined> {
  const socket = connect(Number(port), "127.0.0.1");
  try {
    const query = queryBytes({ name: "web.svc.waymark", type: "SRV" });
    socket.write(Buffer.concat([Buffer.from([0, query.length]), query]));
    const [reply] = (await once(socket, "data", { signal: AbortSignal.timeout(30_000) })) as [Buffer];
    return responseText(reply.subarray(2)).split(/\s/)[0];
  } finally {
    socket.destroy();
  }
}

test("a tenant's reads are one allowance over gRPC, HTTP and all namespaces, and nobody else's", async () => {
  await using node = await startLimitedNode("[limits]\nreads_per_minute = 30\n");
  const beganMs = performance.now();
  for (let i = 0; i < 10; i++) expect((await node.post("a", `${DISCOVERY}/CatalogQuery`, { namespace: `svc.h${i}` })).status).toBe(200);
  const { count, outcome } = await readsUntilRefused((i) => node.grpc.a.catalogQuery({ namespace: `svc.n${i}` }));
  // One comes back every two seconds.
  expect(count).toBeGreaterThanOrEqual(20);
  expect(count).toBeLessThanOrEqual(20 + (performance.now() - beganMs) / 2000);
  expect(outcome).toMatchObject({ reason: "discovery_rate_limited" });
  expect(outcome.message).toContain('tenant "a" has 30 reads a minute');
  expect(outcome.retryMs).toBeGreaterThan(0);
  expect(outcome.retryMs).toBeLessThanOrEqual(2000);

  // One may have come back meanwhile.
  let refused = await node.post("a", `${DISCOVERY}/Resolve`, { namespace: "svc.x", name: "web" });
  while (refused.status !== 429) refused = await node.post("a", `${DISCOVERY}/Resolve`, { namespace: "svc.x", name: "web" });
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, expect.stringMatching(/^[12]$/)]);
  expect(await outcomeOf(node.grpc.b.catalogQuery({}))).toMatchObject({ reason: "ok" });
  // What tells what is wrong goes on, and so do writes.
  expect(await outcomeOf(node.grpc.a.serverInfo({}))).toMatchObject({ reason: "ok" });
  expect(await outcomeOf(node.grpc.a.register(registration("svc.x", "1")))).toMatchObject({ reason: "ok" });
  expect(await node.metrics()).toMatch(/discovery_rate_limited_total\{tenant="a"\} [2-9]/);
});

test("a flood leaves at most one record a second in the audit, and none of its calls is lost there", { tags: ["night"] }, async () => {
  await using node = await startLimitedNode("[limits]\nwrites_per_minute = 1\n");
  const beganMs = performance.now();
  const flood = await Promise.all(Array.from({ length: 300 }, (_, i) => outcomeOf(node.grpc.a.register(registration("svc.x", `${i}`)))));
  expect(flood.filter(({ reason }) => reason === "ok")).toHaveLength(1);
  const countOf = ({ detail = "" }: AuditRecord) => Number(/(\d+) calls refused/.exec(detail)?.[1] ?? 1);
  await until(
    "all are in the audit",
    async () => (await auditOf(node, "rate_limited")).reduce((sum, record) => sum + countOf(record), 0) === 299,
  );
  const records = await auditOf(node, "rate_limited");
  expect(records.length).toBeLessThanOrEqual(2 + (performance.now() - beganMs) / 1000);
  expect(records[0]).toMatchObject({ tenant: "a", action: "write", reason: "rate_limited" });
});

test("renewals go on while a tenant's writes are used up", { tags: ["night"] }, async () => {
  await using node = await startLimitedNode("[limits]\nwrites_per_minute = 1\n");
  const { leaseId } = await node.grpc.a.register(registration("svc.x", "1"));
  expect(await outcomeOf(node.grpc.a.register(registration("svc.x", "2")))).toMatchObject({ reason: "discovery_rate_limited" });
  for (let i = 0; i < 100; i++) expect((await node.grpc.a.renew({ leaseIds: [leaseId] })).expiredLeaseIds).toEqual([]);
});

test("open watches are bounded by caller, and by namespace and tenant quota; a closed one makes room", async () => {
  await using node = await startLimitedNode("[limits]\nwatches = 3\n[quotas]\nnamespace_watches = 2\n");
  const openWatch = async (who: "a" | "b", namespace: string) => {
    const abort = new AbortController();
    const stream = node.grpc[who].catalogWatch({ namespace }, { signal: abort.signal })[Symbol.asyncIterator]();
    const outcome = await outcomeOf(stream.next());
    return { ...outcome, close: () => abort.abort() };
  };
  const first = await openWatch("a", "svc.x");
  const second = await openWatch("a", "svc.x");
  expect([first.reason, second.reason]).toEqual(["ok", "ok"]);
  const full = await openWatch("b", "svc.x");
  expect(full).toMatchObject({ reason: "quota_exceeded", facts: { namespace: "svc.x", bound: "watches", current: "2", max: "2" } });
  expect((await openWatch("a", "svc.y")).reason).toBe("ok");
  expect(await openWatch("a", "svc.z")).toMatchObject({ reason: "discovery_rate_limited", retryMs: 5000 });
  first.close();
  await until("there is room", async () => {
    const again = await openWatch("b", "svc.x");
    if (again.reason !== "ok") again.close();
    return again.reason === "ok";
  });
});

test("quotas hold against a burst, refuse whole requests, say what is full, and let go what leaves", async () => {
  await using node = await startLimitedNode("[quotas]\nnamespace_entries = 10\ntenant_entries = 15\n");
  const burst = await Promise.all(Array.from({ length: 40 }, (_, i) => outcomeOf(node.grpc.a.register(registration("svc.x", `i${i}`)))));
  expect(burst.filter(({ reason }) => reason === "ok")).toHaveLength(10);
  expect(burst.at(-1)).toMatchObject({
    reason: "quota_exceeded",
    facts: { namespace: "svc.x", bound: "entries", current: "10", max: "10" },
  });
  // All or nothing: six do not fit where five do.
  const six = Array.from({ length: 6 }, (_, i) => `j${i}`);
  expect(await outcomeOf(node.grpc.a.register(registration("svc.y", ...six)))).toMatchObject({
    reason: "quota_exceeded",
    facts: { tenant: "a", current: "10", max: "15" },
  });
  expect((await node.grpc.b.catalogQuery({ namespace: "svc.y" })).items).toEqual([]);
  // What is there may be registered again.
  expect(await outcomeOf(node.grpc.a.register(registration("svc.x", "i0")))).toMatchObject({ reason: "ok" });
  await node.grpc.a.unregister({ keys: [{ namespace: "svc.x", name: "web", kind: 1, instanceId: "i0" }] });
  expect(await outcomeOf(node.grpc.a.register(registration("svc.x", "new")))).toMatchObject({ reason: "ok" });
  expect(await outcomeOf(node.grpc.b.register(registration("svc.x", "b")))).toMatchObject({ reason: "quota_exceeded" });
  const metrics = await node.metrics();
  expect(metrics).toMatch(/waymark_quota_refusals_total\{holder="namespace",bound="entries"\} 31/);
  expect(metrics).toMatch(/waymark_quota_refusals_total\{holder="tenant",bound="entries"\} 1/);
  expect((await auditOf(node, "quota_exceeded")).length).toBeGreaterThan(0);
});

test("a quota of a policy rule comes into force with the policy, and removes nothing", { tags: ["night"] }, async () => {
  await using node = await startLimitedNode("");
  await node.grpc.a.register(registration("svc.x", "1", "2", "3"));
  const policy = { version: "1", defaultAllow: true, rules: [{ namespace: "svc.x", quota: { entries: 2 } }] };
  const applied = await node.post("operator", `${POLICY}/ApplyPolicy`, { policy, reason: "test" });
  expect([applied.status, await applied.text()]).toEqual([200, expect.any(String)]);
  expect((await node.grpc.a.catalogQuery({ namespace: "svc.x" })).items).toHaveLength(3);
  const refused = await outcomeOf(node.grpc.a.register(registration("svc.x", "4")));
  expect(refused).toMatchObject({ reason: "quota_exceeded", facts: { namespace: "svc.x", current: "3", max: "2" } });
});

test("DNS over TCP is REFUSED over the limit", async () => {
  await using node = await startLimitedNode("[limits]\nreads_per_minute = 5\n");
  const port = (node.process.listeners["dns"] ?? "").split(":").at(-1) ?? "";
  const statuses: (string | undefined)[] = [];
  for (let i = 0; i < 8; i++) statuses.push(await dnsStatus(port));
  expect(statuses.slice(0, 5)).toEqual(Array.from({ length: 5 }, () => "NXDOMAIN"));
  expect(statuses.at(-1)).toBe("REFUSED");
});

test.each([
  { most: 5, count: 6, says: "invalid_argument" },
  { most: 5000, count: 1500, says: "ok" },
])(
  "limits.max_request_entries = $most holds for $count entries, leases, reports and keys",
  { tags: ["night"] },
  async ({ most, count, says }) => {
    await using node = await startLimitedNode(`[limits]\nmax_request_entries = ${most}\n`);
    const keys = Array.from({ length: count }, (_, i) => ({
      kind: EntryKind.SERVICE,
      namespace: "svc.a",
      name: "web",
      instanceId: `w${i}`,
    }));
    const { a } = node.grpc;
    const asked = [
      await outcomeOf(a.register({ entries: keys.map((key) => ({ key })) })),
      await outcomeOf(a.renew({ leaseIds: keys.map((_, i) => `a/${i}`) })),
      await outcomeOf(a.renew({ reports: keys.map((key) => ({ key })) })),
      await outcomeOf(a.unregister({ keys })),
    ];
    expect(asked.map(({ reason }) => reason)).toEqual([says, says, says, says]);
    const refusal = says === "ok" ? "" : `must have at most ${most} items (limits.max_request_entries), got ${count}`;
    for (const { message } of asked) expect(message).toContain(refusal);
  },
);
