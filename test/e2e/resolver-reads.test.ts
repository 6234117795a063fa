/** What a resolver is served at real nodes, one of them with read workers: over TLS, by its role alone, with the policy, and whatever viewers may see. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DiscoveryDelta_Cause as Cause } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { HealthStatus, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot, Source } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { type CatalogWatchResponse, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService, type WatchPolicyResponse } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { decodeVersion } from "../../src/policy/versions/codec.ts";
import { callHttps, pathOf } from "../fakes/any-call.ts";
import { TestAuthority } from "../fakes/certificates.ts";
import { outcomeOf } from "../fakes/limited-node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-reads-"));
const TOKENS = { resolver: "token-of-a-resolver", admin: "token-of-an-admin", blue: "token-of-a-viewer" } as const;
const ROLES = { resolver: ["mesh.resolve"], admin: ["mesh.admin"], blue: [] } as const;
type Who = keyof typeof TOKENS | "nobody";
/** Connections that reach both workers, but for one run in two thousand. */
const DOORS = 12;

const FABRIC_TOKEN = join(HOME, "fabric.token");
writeFileSync(FABRIC_TOKEN, "a-token-of-the-resolver-tests\n", { mode: 0o600 });

const authority = new TestAuthority(HOME, "authority");
const leaf = authority.issue("server");

/** A settings file: everybody's credentials, and more. */
function settingsOf(name: string, more: object): string {
  const hashOf = (token: string) => createHash("sha256").update(token).digest("hex");
  const credentials = Object.entries(TOKENS).map(([who, token]) => ({
    tenant: who,
    token_sha256: hashOf(token),
    roles: ROLES[who as keyof typeof ROLES],
  }));
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ tenants: { mode: true, credentials }, observability: { log_level: "warn" }, ...more }));
  return path;
}

/** Of a member of the cluster. */
const MEMBER = {
  tls: { cert_file: leaf.certFile, key_file: leaf.keyFile },
  fabric: { cluster_token_file: FABRIC_TOKEN, interval: "400ms", ping_timeout: "250ms", join_timeout: "20s", orphan_grace: "1s" },
};

let near: NodeProcess;
let far: NodeProcess;
beforeAll(async () => {
  near = await startNodeProcess(["--ephemeral", "--node-id", "near", "--workers", "2", "--config", settingsOf("near", MEMBER)]);
  const joins = ["--join", near.listeners["fabric"] ?? ""];
  far = await startNodeProcess(["--ephemeral", "--node-id", "far", "--config", settingsOf("far", MEMBER), ...joins]);
});
afterAll(async () => {
  await near[Symbol.asyncDispose]();
  await far[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

/** A connection of its own. */
function transportAt(node: NodeProcess, who: Who, baseUrl = `https://${node.grpc}`): Transport {
  const credential: Interceptor = (next) => (request) => {
    if (who !== "nobody") request.header.set("authorization", `Bearer ${TOKENS[who]}`);
    return next(request);
  };
  return createGrpcTransport({ baseUrl, interceptors: [credential], nodeOptions: { ca: authority.ca } });
}

function clientAt<S extends DescService>(service: S, node: NodeProcess, who: Who, baseUrl?: string): Client<S> {
  return createClient(service, transportAt(node, who, baseUrl));
}

const entry = (namespace: string, name: string, scope = Scope.ZONE) => ({
  key: { kind: 1, namespace, name, instanceId: "1" },
  scope,
  targets: [{ host: "192.0.2.1", port: 80 }],
});
const keyOf = (namespace: string, name: string) => ({ kind: 1, namespace, name, instanceId: "1" });

async function register(node: NodeProcess, ...entries: ReturnType<typeof entry>[]): Promise<void> {
  await clientAt(DiscoveryService, node, "admin").register({ entries, staticLease: true });
}

async function applyPolicy(node: NodeProcess, version: string, rules: readonly object[]): Promise<string> {
  const policies = clientAt(PolicyService, node, "admin");
  await policies.applyPolicy({ policy: { version, defaultAllow: true, rules: rules as never }, reason: "test" });
  return version;
}

/** Names that a client's query of everything below `svc` shows. */
async function namesAt(client: Client<typeof DiscoveryService>, namespacePrefix: string, forResolver: boolean): Promise<readonly string[]> {
  const { items } = await client.catalogQuery({ namespacePrefix, forResolver });
  return items.map(({ key }) => key?.name ?? "");
}

/** A stream that is read on and on, until it is left. */
class Follower<T> implements Disposable {
  readonly messages: T[] = [];
  readonly #ended = new AbortController();
  /** What ended it, when that was not this side. */
  fault = "";

  constructor(open: (signal: AbortSignal) => AsyncIterable<T>, onMessage: (message: T) => void = () => undefined) {
    void this.#read(open(this.#ended.signal), onMessage);
  }

  async #read(stream: AsyncIterable<T>, onMessage: (message: T) => void): Promise<void> {
    try {
      for await (const message of stream) {
        this.messages.push(message);
        onMessage(message);
      }
    } catch (error) {
      if (!this.#ended.signal.aborted) this.fault = String(error);
    }
  }

  /** Waits until some message is as asked, and takes all messages up to it. */
  async upTo(what: string, isAsked: (message: T) => boolean): Promise<readonly T[]> {
    await until(what, () => (this.messages.some(isAsked) ? [] : [this.fault, `${this.messages.length} messages`]));
    return this.messages.splice(0, this.messages.findIndex(isAsked) + 1);
  }

  [Symbol.dispose](): void {
    this.#ended.abort();
  }
}

function follow(
  node: NodeProcess,
  namespacePrefixes: readonly string[],
  more: { readonly cursor?: string; readonly withDigest?: boolean } = {},
): Follower<CatalogWatchResponse> {
  const request = { forResolver: true, namespacePrefixes: [...namespacePrefixes], bookmarkInterval: { seconds: 1n }, ...more };
  return new Follower((signal) => clientAt(DiscoveryService, node, "resolver").catalogWatch(request, { signal }));
}

/** The names that were put, and those that were removed with their causes, in order. */
function changesIn(messages: readonly CatalogWatchResponse[]): readonly string[] {
  return messages.flatMap(({ deltas }) =>
    deltas.map(({ payload, cause }) => {
      if (payload.case === "entry") return `${payload.value.key?.name}${payload.value.health === HealthStatus.ORPHANED ? " ORPHANED" : ""}`;
      return `-${payload.case === "removed" ? payload.value.name : "?"} ${Cause[cause]}`;
    }),
  );
}

/** That a key is gone, and why. */
const isGone = (name: string) => (message: CatalogWatchResponse) => changesIn([message]).some((change) => change.startsWith(`-${name} `));
const isEnd = ({ snapshot }: CatalogWatchResponse) => snapshot === Snapshot.END;

function firstOf<T>(stream: AsyncIterable<T>): Promise<IteratorResult<T>> {
  return stream[Symbol.asyncIterator]().next();
}

const RPCS = {
  CatalogQuery: (discovery: Client<typeof DiscoveryService>) => discovery.catalogQuery({ forResolver: true }),
  CatalogWatch: (discovery: Client<typeof DiscoveryService>) =>
    firstOf(discovery.catalogWatch({ forResolver: true, namespacePrefixes: [""] })),
} as const;

test("the reads of resolvers need their role, at every node and thread, and an admin does not have it", async () => {
  const reasons = { nobody: "unauthenticated", admin: "discovery_access_denied", blue: "discovery_access_denied", resolver: "ok" } as const;
  for (const node of [near, near, near, near, far]) {
    for (const [who, reason] of Object.entries(reasons) as [Who, string][]) {
      for (const ask of Object.values(RPCS)) expect(await outcomeOf(ask(clientAt(DiscoveryService, node, who)))).toMatchObject({ reason });
      const policy = firstOf(clientAt(PolicyService, node, who).watchPolicy({}));
      expect(await outcomeOf(policy)).toMatchObject({ reason });
    }
  }
});

const elsewhere = Object.values(networkInterfaces())
  .flatMap((cards) => cards ?? [])
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address;

test.skipIf(elsewhere === undefined)(
  "over an open connection from another address a resolver is refused, and over loopback it is not",
  async () => {
    await using open = await startNodeProcess(["--ephemeral", "--config", settingsOf("open", { listen: { host: "0.0.0.0" } })]);
    const port = open.grpc.split(":").at(-1);
    for (const [host, reason] of [
      [elsewhere, "discovery_access_denied"],
      ["127.0.0.1", "ok"],
    ]) {
      const discovery = clientAt(DiscoveryService, open, "resolver", `http://${host}:${port}`);
      for (const ask of Object.values(RPCS)) expect(await outcomeOf(ask(discovery))).toMatchObject({ reason });
      const policies = clientAt(PolicyService, open, "resolver", `http://${host}:${port}`);
      expect(await outcomeOf(firstOf(policies.watchPolicy({})))).toMatchObject({ reason });
      // Its other reads are judged as everybody's.
      expect(await outcomeOf(discovery.catalogQuery({ namespace: "svc" }))).toMatchObject({ reason: "ok" });
    }
  },
);

test("a resolver has what viewers may not see, nothing that an owner's rule or LOCAL keeps from it, and the epoch of the policy", async () => {
  await register(
    near,
    entry("svc.open", "web"),
    entry("svc.open", "near", Scope.LOCAL),
    entry("svc.hidden", "secret"),
    entry("svc.owned", "stray", Scope.REGION),
  );
  await register(far, entry("svc.open", "other"));
  const rules = [
    { namespace: "svc.hidden", visibilityTenants: ["blue"] },
    { namespace: "svc.owned", owners: ["elsewhere"] },
  ];
  await applyPolicy(near, "first", rules);
  const told = await new Follower((signal) => clientAt(PolicyService, far, "resolver").watchPolicy({}, { signal })).upTo(
    "the node told its first policy",
    ({ state }) => state !== undefined && state.versions.length > 0,
  );
  const epoch = told.at(-1)?.state?.policyEpoch ?? "";
  for (const node of [...Array.from({ length: DOORS }, () => near), far]) {
    const client = clientAt(DiscoveryService, node, "resolver");
    await until("entries and policy are at the node", async () => {
      const { items, policyEpoch, source } = await client.catalogQuery({ namespacePrefix: "svc", forResolver: true });
      expect(items.map(({ key }) => key?.name)).toEqual(["secret", "other", "web"]);
      expect({ policyEpoch, source }).toEqual({ policyEpoch: epoch, source: Source.REPLICA });
      return true;
    });
    // The same caller for itself, and the one whom the rule names.
    expect(await namesAt(client, "svc.hidden", false)).toEqual([]);
    expect(await namesAt(clientAt(DiscoveryService, node, "blue"), "svc.hidden", false)).toEqual(["secret"]);
    using stream = follow(node, ["svc.hidden", "svc.open", "svc.owned"], { withDigest: true });
    const snapshot = await stream.upTo("the snapshot ended", isEnd);
    expect(changesIn(snapshot).toSorted()).toEqual(["other", "secret", "web"]);
    expect(snapshot.at(-1)).toMatchObject({ count: 3n, source: Source.REPLICA, via: [], servedBy: node.nodeId });
    expect(new Set(snapshot.map(({ policyEpoch }) => policyEpoch))).toEqual(new Set([epoch]));
  }
  const { body } = await callHttps(near.listeners["http"] ?? "", {
    path: pathOf(DiscoveryService.method.catalogQuery),
    headers: { authorization: `Bearer ${TOKENS.resolver}` },
    body: JSON.stringify({ namespacePrefix: "svc.hidden", forResolver: true }),
    tls: { ca: String(authority.ca) },
    version: 1,
  });
  expect(JSON.parse(body)).toMatchObject({ items: [{ key: { name: "secret" } }], policyEpoch: epoch, source: "SOURCE_REPLICA" });
});

/** Both streams of a resolver over one connection, so that what was sent first is read first. */
function resolverAt(node: NodeProcess) {
  const transport = transportAt(node, "resolver");
  const parts: Uint8Array[] = [];
  const heard = new Set<string>();
  /** Labels of the versions that came whole. */
  const labels: string[] = [];
  /** Epochs that a message was made under before they were heard of. */
  const unheard: string[] = [];
  const policy = new Follower<WatchPolicyResponse>(
    (signal) => createClient(PolicyService, transport).watchPolicy({}, { signal }),
    ({ part, state }) => {
      if (part !== undefined) parts.push(part.bytes);
      if (part !== undefined && part.offset + part.bytes.length === part.sizeBytes) {
        const read = decodeVersion(Buffer.concat(parts.splice(0)));
        labels.push(read.ok ? read.version.version : read.fault);
      }
      if (state !== undefined) heard.add(state.policyEpoch);
    },
  );
  const openCatalog = () =>
    new Follower<CatalogWatchResponse>(
      (signal) => createClient(DiscoveryService, transport).catalogWatch({ forResolver: true, namespacePrefixes: ["svc"] }, { signal }),
      ({ policyEpoch }) => {
        if (!heard.has(policyEpoch)) unheard.push(policyEpoch);
      },
    );
  return { policy, openCatalog, labels, unheard };
}

test("ResolverService looks a name up at every node and thread, for each caller by the policy, and says that a node has no cache", async () => {
  const name = { namespace: "svc.hidden", name: "secret" };
  const seen = async (node: NodeProcess, who: Who) => (await clientAt(ResolverService, node, who).resolve(name)).entries.length;
  for (const node of [near, near, near, near, far]) {
    expect([await seen(node, "blue"), await seen(node, "admin"), await seen(node, "resolver")]).toEqual([1, 0, 0]);
    for (const method of ["cacheStats", "resync", "evict"] as const) {
      const called = await outcomeOf(clientAt(ResolverService, node, "admin")[method]({}));
      expect(called).toMatchObject({ reason: "resolver_disabled" });
    }
    expect(await outcomeOf(clientAt(ResolverService, node, "blue").evict({}))).toMatchObject({ reason: "discovery_access_denied" });
  }
  for (const [rpc, status, wanted] of [
    ["Resolve", 200, { entries: [{ key: { name: "secret" } }], source: "SOURCE_REPLICA", servedBy: "near" }],
    ["CacheStats", 403, { code: "permission_denied" }],
  ] as const) {
    const answer = await callHttps(near.listeners["http"] ?? "", {
      path: `/waymark.resolver.v1.ResolverService/${rpc}`,
      headers: { authorization: `Bearer ${TOKENS.blue}` },
      body: JSON.stringify(rpc === "Resolve" ? name : {}),
      tls: { ca: String(authority.ca) },
      version: 1,
    });
    expect([answer.status, JSON.parse(answer.body)]).toMatchObject([status, wanted]);
  }
});

test("a resolver finds what is at a name of DNS, or below it, at every node and thread", async () => {
  const admin = clientAt(DiscoveryService, near, "admin");
  await admin.register({ entries: [{ ...entry("svc.dns", "shop"), aliases: ["WWW.shop.example"] }], staticLease: true });
  for (const node of [near, near, near, near, far]) {
    const client = clientAt(DiscoveryService, node, "resolver");
    const found = async (names: { readonly aliases?: string[]; readonly hosts?: string[] }) =>
      (await client.catalogQuery({ ...names, forResolver: true })).items.map(({ key }) => key?.name);
    await until("the entry is at the node", async () => (await found({ aliases: ["www.shop.example."] })).length > 0);
    expect(await found({ aliases: ["shop.example"] })).toEqual([]);
    expect(await found({ hosts: ["example"] })).toEqual(["shop"]);
    // A namespace that viewers may not see.
    expect(await found({ hosts: ["hidden"] })).toEqual(["secret"]);
    expect((await client.catalogQuery({ hosts: ["hidden"] })).items).toEqual([]);
  }
  const flags = ["--ca", authority.caFile, "--token", TOKENS.blue];
  expect((await near.run(["discovery", "query", "--alias", "www.shop.example", ...flags])).stdout).toContain("shop");
});

test("a new version comes before the messages made under it, and each message names the policy that it was made under", async () => {
  using all = new DisposableStack();
  const resolvers = [far, near, near, near, near].map(resolverAt);
  for (const { policy } of resolvers) {
    all.use(policy);
    await policy.upTo("the state of the policy came", ({ state }) => state !== undefined);
  }
  const streams = resolvers.map(({ openCatalog }) => all.use(openCatalog()));
  for (const stream of streams) await stream.upTo("the snapshot ended", isEnd);
  for (let round = 0; round < 6; round++) {
    const isShown = round % 2 === 0;
    const rules = [{ namespace: "svc.owned", owners: [isShown ? "local" : "elsewhere"] }];
    const version = await applyPolicy(round < 3 ? far : near, `round-${round}`, rules);
    for (const [i, stream] of streams.entries()) {
      // What an owner's rule shows or hides, a resolver is told.
      const told = await stream.upTo(`the owners rule of round ${round} came into force at stream ${i}`, ({ deltas }) => deltas.length > 0);
      expect(changesIn(told)).toEqual([isShown ? "stray" : "-stray NO_MATCH"]);
      await until("the version is there", () => resolvers[i]?.labels.at(-1) === version);
    }
  }
  // Read workers are told of a policy by another way than its readers.
  expect(resolvers[0]?.unheard).toEqual([]);
});

test("a REMOVE says why: unregistered, expired, no longer for resolvers", async () => {
  await register(near, entry("svc.gone", "ended"), entry("svc.gone", "narrowed"));
  const admin = clientAt(DiscoveryService, near, "admin");
  await admin.register({ entries: [entry("svc.gone", "leased")], ttl: { seconds: 1n } });
  const streams = [...Array.from({ length: 4 }, () => near), far].map((node) => follow(node, ["other", "svc.gone"]));
  try {
    await Promise.all(streams.map((stream) => stream.upTo("the snapshot ended", isEnd)));
    await admin.unregister({ keys: [keyOf("svc.gone", "ended")] });
    await register(near, entry("svc.gone", "narrowed", Scope.LOCAL));
    for (const stream of streams) {
      const told = await stream.upTo("the lease ran out", isGone("leased"));
      expect(
        changesIn(told)
          .filter((change) => change.startsWith("-"))
          .toSorted(),
      ).toEqual(["-ended UNREGISTERED", "-leased EXPIRED", "-narrowed NO_MATCH"]);
    }
  } finally {
    for (const stream of streams) stream[Symbol.dispose]();
  }
});

test("a cursor is good at another node, for another list of namespaces, and only where LOCAL entries hide nothing", async () => {
  await register(near, entry("svc.roam", "one"), entry("svc.more", "two"));
  using first = follow(near, ["svc.roam"]);
  const portableCursor = (await first.upTo("the snapshot ended", isEnd)).at(-1)?.portableCursor ?? "";
  expect(portableCursor).not.toBe("");
  await register(near, entry("svc.roam", "three"), entry("svc.more", "four"));
  for (const node of [far, near]) {
    using second = follow(node, ["svc.more", "svc.roam"], { cursor: portableCursor });
    const told = await second.upTo("it caught up", ({ bookmark, portableCursor: next }) => bookmark && next !== portableCursor);
    expect(told.map(({ snapshot }) => snapshot)).toEqual(told.map(() => Snapshot.UNSPECIFIED));
    expect(changesIn(told).toSorted()).toEqual(["four", "three"]);
  }
  // `svc.open` has a LOCAL entry at the first node.
  using local = follow(near, ["svc.open"]);
  const cursor = (await local.upTo("the snapshot ended", isEnd)).at(-1)?.portableCursor ?? "";
  using third = follow(far, ["svc.open"], { cursor });
  expect(changesIn(await third.upTo("the snapshot ended", isEnd)).toSorted()).toEqual(["other", "web"]);
});

test("an entry whose node is away shows so, and then it is gone for that cause", { tags: ["night"] }, async () => {
  await register(far, entry("svc.away", "lost"));
  using stream = follow(near, ["svc.away"]);
  await stream.upTo("the entry is at the other node", (message) => changesIn([message]).includes("lost"));
  far.command.kill("SIGKILL");
  const told = await stream.upTo("the entry is gone", isGone("lost"));
  expect(changesIn(told)).toEqual(["lost ORPHANED", "-lost ORIGIN_AWAY"]);
});
