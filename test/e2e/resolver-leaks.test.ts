/**
 * Callers of a real resolver see what a naive reading of the policy lets them see, by every way of asking, also while the policy changes.
 * @module-tag night
 */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { connect, type LiveMap } from "../../src/client/index.ts";
import { Rng } from "../../src/lib/rng.ts";
import { dig } from "../fakes/dig.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-leaks-"));
const VIEWERS = ["blue", "red", "green"] as const;
/** DNS has no credentials: whoever asks is seen as this one, whom no rule names. */
const NOBODY = "nobody";
const ROLES: Readonly<Record<string, readonly string[]>> = { resolver: ["mesh.resolve"], admin: ["mesh.admin"] };
/** Half of them are followed from the start. */
const NAMESPACES = ["near.a", "near.b", "near.b.deep", "far.a", "far.b", "far.b.deep"];
const ROUNDS = 6;
const SEED = 7;

const tokenOf = (who: string) => `token-of-${who}`;
writeFileSync(join(HOME, "resolver.token"), tokenOf("resolver"), { mode: 0o600 });

function settings(name: string, more: object = {}): readonly string[] {
  const credentials = [...VIEWERS, "resolver", "admin"].map((tenant) => ({
    tenant,
    token_sha256: createHash("sha256").update(tokenOf(tenant)).digest("hex"),
    roles: ROLES[tenant] ?? [],
  }));
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ tenants: { mode: true, credentials }, observability: { log_level: "warn" }, ...more }));
  return ["--ephemeral", "--node-id", name, "--config", path];
}

let node: NodeProcess;
let resolver: NodeProcess;
beforeAll(async () => {
  node = await startNodeProcess(settings("node"));
  const entries = NAMESPACES.map((namespace) => ({
    key: { kind: 1, namespace, name: "web", instanceId: "1" },
    scope: Scope.ZONE,
    targets: [{ host: "192.0.2.1", port: 80 }],
  }));
  await discoveryAt(node, "admin").register({ entries, staticLease: true });
  const mode = ["--mode", "resolver", "--upstream", node.grpc, "--namespaces", "near"];
  resolver = await startNodeProcess([...mode, ...settings("edge", { resolver: { token_file: join(HOME, "resolver.token") } })]);
});
afterAll(async () => {
  await resolver[Symbol.asyncDispose]();
  await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

function transportAt(server: NodeProcess, who: string) {
  const credential: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${tokenOf(who)}`);
    return next(request);
  };
  return createGrpcTransport({ baseUrl: `http://${server.grpc}`, interceptors: [credential] });
}
const discoveryAt = (server: NodeProcess, who: string) => createClient(DiscoveryService, transportAt(server, who));

type Rules = ReadonlyMap<string, readonly string[]>;

/** A rule holds for its namespace and all below it that has none of its own. What has no rule is seen by everybody. */
function sees(rules: Rules, who: string, namespace: string): boolean {
  const viewers = rules.get(namespace);
  if (viewers !== undefined) return viewers.includes(who);
  const dot = namespace.lastIndexOf(".");
  return dot < 0 || sees(rules, who, namespace.slice(0, dot));
}

/** An answer of the resolver over HTTP. */
async function overHttp(who: string, path: string, body?: object): Promise<string> {
  const headers = { authorization: `Bearer ${tokenOf(who)}`, "content-type": "application/json" };
  const answer = await fetch(`http://${resolver.listeners["http"]}${path}`, {
    headers,
    ...(body !== undefined && { method: "POST", body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return text;
}

/** Namespaces that an answer showed something of. */
type Ask = (who: string) => Promise<readonly string[]>;

const WAYS: Readonly<Record<string, Ask>> = {
  everything: async (who) => (await discoveryAt(resolver, who).catalogQuery({ limit: 1000 })).items.map(({ key }) => key?.namespace ?? ""),
  "small pages": async (who) => {
    const seen: string[] = [];
    for (let pageToken = ""; ; ) {
      const page = await discoveryAt(resolver, who).catalogQuery({ kinds: [1], limit: 1, pageToken });
      seen.push(...page.items.map(({ key }) => key?.namespace ?? ""));
      ({ nextPageToken: pageToken } = page);
      if (pageToken === "") return seen;
    }
  },
  "each namespace": (who) => each(async (namespace) => (await discoveryAt(resolver, who).catalogQuery({ namespace })).items.length > 0),
  "each name": (who) =>
    each(async (namespace) => (await discoveryAt(resolver, who).catalogQuery({ namespace, names: ["web"] })).items.length > 0),
  "each by ResolverService": (who) =>
    each(async (namespace) => {
      const { entries } = await createClient(ResolverService, transportAt(resolver, who)).resolve({ namespace, name: "web" });
      return entries.length > 0;
    }),
  "each by Resolve": (who) =>
    each(async (namespace) => isAnswered(discoveryAt(resolver, who).resolve({ namespace, name: "web", kind: 1 }), "not_found")),
  "the status of each": (who) =>
    each(async (namespace) => (await discoveryAt(resolver, who).namespaceStatus({ namespace })).endpointCount > 0n),
  "explained, with everything that was looked at": async (who) => {
    const { explanation } = await discoveryAt(resolver, who).catalogQuery({ namespacePrefix: "far", names: ["web"], explain: true });
    return explanation.map(({ key }) => key?.namespace ?? "");
  },
  "each over HTTP": (who) =>
    each(async (namespace) =>
      (await overHttp(who, `/${DiscoveryService.typeName}/CatalogQuery`, { namespace, names: ["web"] })).includes("192.0.2.1"),
    ),
  "the targets of each, for Prometheus": (who) =>
    each(async (namespace) => (await overHttp(who, `/sd/prometheus?namespace=${namespace}`)).includes("192.0.2.1")),
  "each in DNS": () =>
    each(async (namespace) => (await dig(resolver.listeners["dns"] ?? "", `web.${namespace}.waymark`)).includes("192.0.2.1")),
  "a watch": async (who) => {
    const seen: string[] = [];
    for await (const { deltas, snapshot } of discoveryAt(resolver, who).catalogWatch({})) {
      seen.push(...deltas.map(({ namespace }) => namespace));
      if (snapshot === Snapshot.END) break;
    }
    return seen;
  },
};

/** Without the namespaces of the control plane, which everybody sees. */
const ownOf = (namespaces: readonly string[]) => namespaces.filter((namespace) => NAMESPACES.includes(namespace));

async function each(isSeen: (namespace: string) => Promise<boolean>): Promise<readonly string[]> {
  const seen = await Promise.all(NAMESPACES.map(async (namespace) => ((await isSeen(namespace)) ? [namespace] : [])));
  return seen.flat();
}

async function isAnswered(call: Promise<unknown>, absent: string): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if (ConnectError.from(error).rawMessage.startsWith(absent)) return false;
    throw error;
  }
}

const callersOf = (way: string) => (way.endsWith("in DNS") ? [NOBODY] : VIEWERS);

/** What a live map shows that was opened before the first policy. */
const shownBy = (map: LiveMap) => [...new Set(ownOf([...map.entries()].map(({ key }) => key?.namespace ?? "")))].toSorted();

const versionAt = async (server: NodeProcess) => (await createClient(PolicyService, transportAt(server, "admin")).policyStatus({})).version;

test(`by every way and in every round of the policy each caller sees what it may, and never anything else (seed ${SEED})`, async () => {
  const rng = new Rng(SEED);
  let before: Rules = new Map();
  const clients = VIEWERS.map((who) => connect({ servers: [resolver.grpc], token: tokenOf(who), findServers: false }));
  const maps = await Promise.all(clients.map((client) => client.watch({})));
  for (let round = 1; round <= ROUNDS; round++) {
    const rules: Rules = new Map(
      NAMESPACES.filter(() => rng.next() < 0.7).map((namespace) => [namespace, VIEWERS.filter(() => rng.next() < 0.5)] as const),
    );
    const wire = [...rules].map(([namespace, tenants]) => ({ namespace, visibilityTenants: [...tenants, "nobody"] }));
    const applied = createClient(PolicyService, transportAt(node, "admin")).applyPolicy({
      policy: { version: `v${round}`, defaultAllow: true, rules: wire },
      reason: "test",
    });
    const old = before;
    // While it changes each caller may be answered by either, and by nothing else.
    const during = Object.entries(WAYS).map(async ([way, ask]) => {
      for (const who of callersOf(way))
        for (const namespace of ownOf(await ask(who).catch(refused)))
          expect([way, who, namespace, sees(old, who, namespace) || sees(rules, who, namespace)]).toEqual([way, who, namespace, true]);
    });
    await Promise.all([applied, ...during]);
    await until(`round ${round}: the resolver judges by the policy`, async () => (await versionAt(resolver)) === `v${round}`);
    // From now on every answer is right at once. Only a watch is told of it a little later.
    for (const [way, ask] of Object.entries(WAYS))
      for (const who of callersOf(way)) {
        const may = NAMESPACES.filter(
          (namespace) => sees(rules, who, namespace) && (!way.startsWith("explained") || namespace.startsWith("far")),
        );
        expect([round, who, way, [...new Set(ownOf(await ask(who)))].toSorted()]).toEqual([round, who, way, may.toSorted()]);
      }
    for (const [i, map] of maps.entries()) {
      const who = VIEWERS[i] ?? "";
      const may = NAMESPACES.filter((namespace) => sees(rules, who, namespace)).toSorted();
      await until(`round ${round}: ${who}'s map shows what it may`, () => {
        const shown = shownBy(map);
        return shown.join() === may.join() ? [] : [`shows ${shown.join()}, may ${may.join()}`];
      });
    }
    before = rules;
  }
  for (const map of maps) await map.close();
  for (const client of clients) client.close();
});

/** A resolver that has heard of a policy and lacks it refuses for a moment. */
function refused(error: unknown): readonly string[] {
  if (ConnectError.from(error).rawMessage.startsWith("not_ready")) return [];
  throw error;
}
