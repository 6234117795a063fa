/** Routes that call rpcs with a JSON body, at the HTTP edge: the operations on peers. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { PeerService } from "../../../gen/waymark/control/v1/peer_pb.js";
import type { PeerOrder } from "../../../src/control/peers/peers.ts";
import type { PeerRecord } from "../../../src/control/peers/records.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import type { PeerOperation } from "../../../src/services/peers/operations.ts";
import { peerService } from "../../../src/services/peers/peers.ts";
import type { ServiceDefinition } from "../../../src/services/service.ts";
import { type DemoEdge, startDemoEdge } from "../../fakes/edge.ts";
import { Forwarding } from "../../fakes/forwarding.ts";
import { NO_OPERATIONS } from "../../fakes/peer-operations.ts";
import { until } from "../../fakes/until.ts";
import { FakeMembers, memberRow } from "../../fakes/watched-members.ts";

const ORIGIN = "https://ui.example";
const orders: PeerOrder[] = [];
const audited: PeerOperation[] = [];
const refused: string[] = [];
let version = 6;

const RECORD: PeerRecord = {
  desiredWallMs: 0,
  desiredReason: "",
  desired: "active",
  drain: undefined,
  labels: {},
  isForgotten: false,
  reason: "",
  ticket: "",
  actor: "",
  atWallMs: 0,
  requestIds: [],
};

/** Operations change only the version of the records. */
const control = {
  isOwnStore: false,
  followPeers: () => () => {},
  record: () => ({ version, value: { ...RECORD }, sinceMs: 0 }),
  changePeer: (order: PeerOrder) => {
    if (order.expectedVersion !== undefined && order.expectedVersion !== version)
      return Promise.reject(new WaymarkError("version_conflict", "etag: read it again"));
    orders.push(order);
    if (!order.isDryRun) version += 1;
    return Promise.resolve();
  },
};

function operations(): ServiceDefinition {
  return peerService({
    ...NO_OPERATIONS,
    control,
    onOperation: (_caller, operation) => void audited.push(operation),
    source: new FakeMembers(memberRow("n1"), memberRow("n:2/a"), memberRow("gone", { status: "dead" })),
    identity: { nodeId: "n1", clusterId: memberRow("n1").clusterId, region: "r1", boot: "b1" },
    clusterKeys: () => [],
    checkCaughtUp: () => {},
    maxWatches: 1,
    tick: () => () => {},
  });
}

const start = (service: ServiceDefinition) =>
  startDemoEdge({
    listener: { services: [service], web: { corsOrigins: [ORIGIN] }, limits: { maxMessageBytes: 2_000 } },
    ports: {
      identify: (header, { address }) => {
        const roles = header("authorization")?.replace("Bearer ", "").split(" ");
        return { ...anonymousCaller("local", address, roles), isAuthenticated: roles !== undefined };
      },
      onRefused: ({ method, error }) => void refused.push(`${method} ${error.reason}`),
    },
  });

let edge: DemoEdge;
beforeAll(async () => {
  edge = await start(operations());
});
afterAll(() => edge[Symbol.asyncDispose]());
beforeEach(() => {
  version = 6;
  for (const list of [orders, audited, refused]) list.length = 0;
});

interface Sent {
  readonly method?: string;
  readonly path?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

const BY_ADMIN = { "content-type": "application/json", authorization: "Bearer mesh.operate mesh.admin" };

async function send({ method = "POST", path = "n1:cordon", body = { reason: "disks" }, headers = {} }: Sent, { base } = edge) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const init = { method, headers: { ...BY_ADMIN, ...headers }, ...(method !== "GET" && method !== "HEAD" && { body: text }) };
  const response = await fetch(`${base}/control/peers${path === "" ? "" : `/${path}`}`, init);
  const answer = await response.text();
  const json = (answer === "" ? {} : JSON.parse(answer)) as { readonly [key: string]: unknown; readonly message?: string };
  return { status: response.status, header: (name: string) => response.headers.get(name), json };
}

const ROUTES = [
  { method: "POST", path: "n1:cordon", change: { kind: "cordon" } },
  { method: "POST", path: "n1:uncordon", change: { kind: "uncordon" } },
  { method: "POST", path: "n1:drain", change: { kind: "drain", deadlineMs: 60_000 }, more: { deadline: "60s" } },
  { method: "POST", path: "gone:forget", change: { kind: "forget" } },
  {
    method: "PATCH",
    path: "n1",
    change: { kind: "label", labels: { rack: "7" }, removed: ["old"] },
    more: { labels: { rack: "7" }, remove: ["old"] },
  },
];

test.each(ROUTES)(
  "$method $path makes the operation of its rpc, once for each rule of requests",
  async ({ method, path, change, more }) => {
    const nodeId = path.split(":")[0];
    const body = { reason: "new disks", ticket: "OPS-7", ...more };
    const done = await send({ method, path, body, headers: { "if-match": '"6"', "idempotency-key": '"r-1"' } });
    expect(done).toMatchObject({ status: 200, json: { peer: { nodeId, etag: '"7"', linked: true, rtt: "0.001s" } } });
    expect([done.header("etag"), done.header("cache-control")]).toEqual(['"7"', "no-store"]);
    expect(orders).toMatchObject([{ nodeId, change, reason: "new disks", ticket: "OPS-7", expectedVersion: 6, requestId: "r-1" }]);
    expect(audited).toMatchObject([{ action: `mesh.${change.kind}_peer`, refusal: "" }]);
    const stale = await send({ method, path, body, headers: { "if-match": '"6"' } });
    expect([stale.status, stale.json["code"]]).toEqual([412, "aborted"]);
    expect((await send({ method, path, body: { ...body, etag: '"6"' } })).status).toBe(409);
    expect(audited.map(({ refusal }) => refusal)).toEqual(["", "version_conflict", "version_conflict"]);
    const without = await send({ method, path, body: { ...body, reason: undefined } });
    expect([without.status, without.json.message]).toEqual([400, expect.stringContaining("reason")]);
    const reader = await send({ method, path, body: "{", headers: { authorization: "Bearer mesh.read" } });
    expect([reader.status, reader.json["code"]]).toEqual([403, "permission_denied"]);
    const foreign = await send({ method, path, body, headers: { origin: "https://evil.example", "sec-fetch-site": "cross-site" } });
    expect(foreign.status).toBe(403);
    expect(orders).toHaveLength(1);
    expect(refused.map((each) => each.split(" ")[1])).toEqual(["discovery_access_denied", "discovery_access_denied"]);
    const page = await send({ method, path, body, headers: { origin: ORIGIN, "sec-fetch-site": "cross-site" } });
    expect([page.status, page.header("access-control-allow-origin")]).toEqual([200, ORIGIN]);
    const calls = edge.on.observed.filter(({ service, transport }) => service === PeerService.typeName && transport === "http1");
    expect(calls.length).toBeGreaterThanOrEqual(6);
  },
);

test.each([
  { what: "no such member", sent: { path: "n9:cordon" }, status: 404, says: "n9" },
  { what: "a verb that does not exist", sent: { path: "n1:explode" }, status: 404, says: "no such path" },
  { what: "a path with more parts", sent: { path: "n1:cordon/now" }, status: 404, says: "no such path" },
  { what: "a verb without a node", sent: { path: ":cordon" }, status: 404, says: "no such path" },
  { what: "GET on a verb", sent: { method: "GET" }, status: 405, says: "use POST", allow: "POST" },
  { what: "PATCH on a verb", sent: { method: "PATCH" }, status: 405, says: "use POST", allow: "POST" },
  { what: "POST on a member", sent: { path: "n1" }, status: 405, says: "use ", allow: expect.stringContaining("PATCH") as unknown },
  { what: "PATCH on the list", sent: { method: "PATCH", path: "" }, status: 405, says: "GET, HEAD", allow: "GET, HEAD" },
  { what: "a query", sent: { path: "n1:cordon?force=true" }, status: 400, says: "this path has no parameters" },
  { what: "no JSON", sent: { body: "{" }, status: 400, says: "invalid JSON" },
  { what: "an empty body", sent: { body: "" }, status: 400, says: "invalid JSON" },
  { what: "a list", sent: { body: [] }, status: 400, says: "expected an object" },
  { what: "an unknown field", sent: { body: { reason: "x", forced: true } }, status: 400, says: "forced" },
  { what: "a field twice", sent: { body: '{"reason":"a","reason":"b"}' }, status: 400, says: "duplicate field name" },
  { what: "a field of another rpc", sent: { body: { reason: "x", timeout: "60s" } }, status: 400, says: "timeout" },
  { what: "another node", sent: { body: { reason: "x", nodeId: "n2" } }, status: 400, says: 'the body contains "n2", and the path "n1"' },
  { what: "percents that are no UTF-8", sent: { path: "%ff:cordon" }, status: 400, says: "percent-encoded UTF-8" },
  { what: "a node id that is none", sent: { path: "a%20b:cordon" }, status: 400, says: "node_id" },
  { what: "a large body", sent: { body: { reason: "x".repeat(2_000) } }, status: 413, says: "the limit is 2000" },
  { what: "a form", sent: { headers: { "content-type": "application/x-www-form-urlencoded" } }, status: 415, says: "use application/json" },
  { what: "text", sent: { headers: { "content-type": "text/plain" } }, status: 415, says: "use application/json" },
  { what: "gzip", sent: { headers: { "content-encoding": "gzip" } }, status: 415, says: "no compressed bodies" },
  { what: "a weak ETag", sent: { headers: { "if-match": 'W/"6"' } }, status: 400, says: "if-match" },
  { what: "two ETags", sent: { headers: { "if-match": '"6", "7"' } }, status: 400, says: "if-match" },
  {
    what: "another etag in the body",
    sent: { body: { reason: "x", etag: '"5"' }, headers: { "if-match": '"6"' } },
    status: 400,
    says: "etag",
  },
  {
    what: "a stale ETag of a dry run",
    sent: { body: { reason: "x", dryRun: true }, headers: { "if-match": '"5"' } },
    status: 412,
    says: "etag",
  },
  {
    what: "another request id",
    sent: { body: { reason: "x", requestId: "a" }, headers: { "idempotency-key": "b" } },
    status: 400,
    says: "request_id",
  },
  { what: "no credential", sent: { headers: { authorization: "" } }, status: 403, says: "mesh.operate" },
  {
    what: "force without mesh.admin",
    sent: { body: { reason: "x", force: true }, headers: { authorization: "Bearer mesh.operate" } },
    status: 403,
    says: "mesh.admin",
  },
  {
    what: "forget without mesh.admin",
    sent: { path: "gone:forget", headers: { authorization: "Bearer mesh.operate" } },
    status: 403,
    says: "mesh.admin",
  },
  { what: "forgetting a living node", sent: { path: "n1:forget" }, status: 400, says: "only nodes that are dead or have left" },
])("$what is answered with $status, and changes nothing", async ({ sent, status, says, allow }) => {
  const answer = await send(sent);
  expect([answer.status, answer.json.message]).toEqual([status, expect.stringContaining(says)]);
  if (allow !== undefined) expect(answer.header("allow")).toEqual(allow);
  expect(orders).toEqual([]);
});

test("a node id is percent-encoded in the path, and fields may repeat the path and the headers", async () => {
  const body = { reason: "x", node_id: "n:2/a", etag: '"6"', requestId: "r" };
  const sent = { path: `${encodeURIComponent("n:2/a")}:cordon`, body, headers: { "if-match": '"6"', "idempotency-key": "r" } };
  expect((await send(sent)).status).toBe(200);
  expect(orders).toMatchObject([{ nodeId: "n:2/a", expectedVersion: 6, requestId: "r" }]);
});

test("a browser may ask before it patches with a condition, if its page is allowed", async () => {
  const asks = { "access-control-request-method": "PATCH", "access-control-request-headers": "if-match,idempotency-key,content-type" };
  const ask = (origin: string) => fetch(`${edge.base}/control/peers/n1`, { method: "OPTIONS", headers: { ...asks, origin } });
  const answer = await ask(ORIGIN);
  expect(answer.status).toBe(204);
  expect(answer.headers.get("access-control-allow-methods")).toContain("PATCH");
  for (const name of ["if-match", "idempotency-key"]) expect(answer.headers.get("access-control-allow-headers")).toContain(name);
  expect((await ask("https://evil.example")).headers.get("access-control-allow-methods")).toBeNull();
});

test("a deadline of the client ends a call that is not answered in time", async () => {
  const { changePeer } = control;
  control.changePeer = () => new Promise(() => {});
  try {
    const answer = await send({ headers: { "connect-timeout-ms": "1" } });
    expect([answer.status, answer.json["code"]]).toEqual([504, "deadline_exceeded"]);
  } finally {
    control.changePeer = changePeer;
  }
});

test("a read worker answers the routes with the forwarded rpcs", async () => {
  const forwarding = new Forwarding(operations());
  await using on = await start({ desc: PeerService, ...forwarding.service });
  let answer: Awaited<ReturnType<typeof send>> | undefined;
  const sending = send({ headers: { "if-match": '"5"' } }, on).then((answered) => (answer = answered));
  await until("the answer", async () => {
    await forwarding.settle();
    return answer !== undefined;
  });
  expect((await sending).status).toBe(412);
  expect(audited).toMatchObject([{ action: "mesh.cordon_peer", refusal: "version_conflict" }]);
});
