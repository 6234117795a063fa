/**
 * A cursor says what one reader holds: who goes on from it with another filter, option or credential gets a snapshot (Watch 3).
 *
 * @module-tag night
 */
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type LimitedNode, registration, startLimitedNode, TOKENS, type Who } from "../fakes/limited-node.ts";

type Reader = Client<typeof DiscoveryService>;
interface Request {
  readonly namespace?: string;
  readonly namespacePrefix?: string;
  readonly names?: string[];
  readonly resources?: string[];
  readonly withDigest?: boolean;
  readonly namesOnly?: boolean;
}

/** What a reader has after it folded up to the first END or bookmark. */
interface Told {
  readonly isAnew: boolean;
  readonly held: readonly string[];
  readonly count: number;
  readonly cursor: string;
  readonly portable: string;
}

/** Goes on with what is held from a cursor, as the guide says, until the server says that nothing is missing. */
async function follow(
  reader: Reader,
  request: Request,
  from: { readonly held: readonly string[]; readonly cursor: string },
): Promise<Told> {
  const held = new Set(from.held);
  let isAnew = false;
  const asked = { ...request, cursor: from.cursor, bookmarkInterval: { seconds: 1n } };
  for await (const message of reader.catalogWatch(asked, { signal: AbortSignal.timeout(60_000) })) {
    if (message.snapshot === Snapshot.BEGIN) {
      isAnew = true;
      held.clear();
    }
    for (const { payload } of message.deltas) {
      if (payload.case === "entry") held.add(payload.value.key?.instanceId ?? "");
      if (payload.case === "removed") held.delete(payload.value.instanceId);
    }
    if (message.snapshot !== Snapshot.END && !message.bookmark) continue;
    const { cursor, portableCursor, count } = message;
    return { isAnew, held: [...held].toSorted(), count: Number(count), cursor, portable: portableCursor };
  }
  throw new Error("the stream ended");
}

async function list(reader: Reader, request: Request): Promise<readonly string[]> {
  const { withDigest: _digest, namesOnly: _names, ...filter } = request;
  const { items } = await reader.catalogQuery(filter);
  return items.map(({ key }) => key?.instanceId ?? "").toSorted();
}

const NOTHING = { held: [], cursor: "" };
const TEAMS = { namespacePrefix: "team", withDigest: true };

let node: LimitedNode;
beforeAll(async () => {
  node = await startLimitedNode("");
  await node.grpc.operator.register({ ...registration("team.a", "a1", "a2"), staticLease: true });
  await node.grpc.operator.register({ ...registration("team.b", "b1"), staticLease: true });
  await node.grpc.operator.register({ ...registration("team.all", "c1"), staticLease: true });
  const rules = (["a", "b"] as const).map((team) => ({ namespace: `team.${team}`, visibilityTenants: [team], owners: ["local"] }));
  const policy = { version: "v", defaultAllow: true, rules };
  const applied = await node.post("operator", "/waymark.policy.v1.PolicyService/ApplyPolicy", { policy });
  if (!applied.ok) throw new Error(await applied.text());
});
afterAll(() => node[Symbol.asyncDispose]());

const webOf = (who: Who): Reader =>
  createClient(
    DiscoveryService,
    createConnectTransport({
      baseUrl: `http://${node.process.listeners["http"]}`,
      httpVersion: "1.1",
      useBinaryFormat: false,
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", `Bearer ${TOKENS[who]}`);
          return next(request);
        },
      ],
    }),
  );

const OTHERS: readonly { readonly what: string; readonly who: Who; readonly request: Request }[] = [
  { what: "another credential", who: "b", request: TEAMS },
  { what: "a wider filter", who: "a", request: { withDigest: true } },
  { what: "a narrower filter", who: "a", request: { namespace: "team.all", withDigest: true } },
  { what: "a filter by name", who: "a", request: { ...TEAMS, withDigest: false, names: ["web"] } },
  { what: "whole entries instead of names", who: "a", request: { ...TEAMS, namesOnly: false } },
];

test.each(OTHERS)("$what than the cursor was given to: a snapshot, and the fold is right, by gRPC and HTTP", async ({ who, request }) => {
  const namesOnly = "namesOnly" in request;
  const first = await follow(node.grpc.a, { ...TEAMS, namesOnly }, NOTHING);
  expect(first).toMatchObject({ isAnew: true, held: ["a1", "a2", "c1"], count: 3 });
  for (const reader of [node.grpc[who], webOf(who)]) {
    for (const cursor of [first.cursor, first.portable]) {
      const other = await follow(reader, request, { held: first.held, cursor });
      const want = await list(reader, request);
      expect(other).toMatchObject({ isAnew: true, held: want, count: request.withDigest === true ? want.length : 0 });
    }
  }
});

test("the same filter and credential go on without a snapshot, by gRPC and HTTP, also after a list of it", async () => {
  for (const reader of [node.grpc.a, webOf("a")]) {
    const first = await follow(reader, TEAMS, NOTHING);
    for (const cursor of [first.cursor, first.portable])
      expect(await follow(reader, TEAMS, { held: first.held, cursor })).toMatchObject({ isAnew: false, held: first.held, count: 3 });
    const page = await reader.catalogQuery({ namespacePrefix: "team" });
    const held = page.items.map(({ key }) => key?.instanceId ?? "");
    expect(await follow(reader, TEAMS, { held, cursor: page.cursor })).toMatchObject({ isAnew: false, held: ["a1", "a2", "c1"], count: 3 });
  }
});

test("a filter made for it, whose 64-bit hash is that of another tenant's open watch, shows nothing of that one", async () => {
  const { a, b } = node.grpc;
  const open = a.catalogWatch({ namespacePrefix: "team" }, { signal: AbortSignal.timeout(60_000) })[Symbol.asyncIterator]();
  await open.next();
  const forged = await follow(b, { namespacePrefix: "team", resources: ["/1UtxGhEfP@pvMHnvWZ+.ugOkmQA"] }, NOTHING);
  expect(forged).toMatchObject({ isAnew: true, held: [] });
  await open.return?.();
});

test("a list of something else leads to a snapshot: another filter, another viewer, a later page, topics of a subject", async () => {
  const { a, b } = node.grpc;
  const first = await a.catalogQuery({ namespacePrefix: "team", limit: 1 });
  const later = await a.catalogQuery({ namespacePrefix: "team", limit: 1, pageToken: first.nextPageToken });
  const lists = [
    await a.catalogQuery({ namespace: "team.all" }),
    await b.catalogQuery({ namespacePrefix: "team" }),
    await a.catalogQuery({ namespacePrefix: "team", subject: "orders.eu" }),
    later,
  ];
  for (const { items, cursor } of lists) {
    const held = items.map(({ key }) => key?.instanceId ?? "");
    expect(await follow(a, TEAMS, { held, cursor })).toMatchObject({ isAnew: true, held: ["a1", "a2", "c1"], count: 3 });
  }
});

test("the cursor of a registration says of nothing else that it is held: a watch that begins with it begins with a snapshot", async () => {
  const { cursor } = await node.grpc.a.register({ ...registration("team.all", "c2"), staticLease: true });
  const told = await follow(node.grpc.a, TEAMS, { held: ["c2"], cursor });
  expect(told).toMatchObject({ isAnew: true, held: ["a1", "a2", "c1", "c2"], count: 4 });
});

test("the command line goes on from a cursor of the same filter, and lists anew with one of another", async () => {
  const { cursor } = await node.grpc.b.catalogQuery({ namespacePrefix: "team" });
  await node.grpc.operator.register({ ...registration("team.b", "b2"), staticLease: true });
  const created = async (...more: readonly string[]): Promise<readonly string[]> => {
    const { exit, stdout } = await node.process.run(["discovery", "watch", "--token", TOKENS.b, "--cursor", cursor, "-o", "json", ...more]);
    expect(exit).toBe(0);
    return [...stdout.matchAll(/"event":"create".*"instanceId":"(\w+)"/g)].map(([, id]) => id ?? "");
  };
  expect(await created("--count", "1", "--prefix", "team")).toEqual(["b2"]);
  expect(await created("--count", "2", "--namespace", "team.b")).toEqual(["b1", "b2"]);
});
