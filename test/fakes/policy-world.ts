/**
 * A real node's inside with all its listeners under random policies, writes, expiry and rollbacks. After each step what every
 * listener says to some viewers is compared with `policy-model.ts`; between a policy and its switch, that nothing leaks.
 */

import assert from "node:assert/strict";
import { create, type DescMessage, fromBinary, isMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { EntryKey } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  ClusterMapRequestSchema,
  ClusterMapResponseSchema,
  NamespaceStatusRequestSchema,
  NamespaceStatusResponseSchema,
  RegisterRequestSchema,
  RegisterResponseSchema,
  ResolveRequestSchema,
  ResolveResponseSchema,
  UnregisterRequestSchema,
  UnregisterResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { Act } from "../../gen/waymark/options/v1/options_pb.js";
import {
  ApplyPolicyRequestSchema,
  ApplyPolicyResponseSchema,
  ExplainRequestSchema,
  ExplainResponseSchema,
  RollbackPolicyRequestSchema,
  RollbackPolicyResponseSchema,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import type { Scope } from "../../src/catalog/entry/scope.ts";
import { parseZone } from "../../src/dns/names/names.ts";
import { DnsResponder } from "../../src/dns/server/responder.ts";
import { dnsCatalog } from "../../src/dns/views/catalog.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { openLog } from "../../src/lib/log.io.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import { now as realNow } from "../../src/lib/stall-aware-time.io.ts";
import { type NodePolicy, openNodePolicy } from "../../src/node/policy.io.ts";
import { type Caller, MESH_ROLES } from "../../src/policy/identity/caller.ts";
import { encodePolicySet } from "../../src/policy/set/codec.ts";
import type { NamespaceRule, PolicySet } from "../../src/policy/set/rules.ts";
import { openScraper } from "../../src/server/metrics.io.ts";
import { nodeEntry } from "../../src/services/node-entry.ts";
import type { ServiceDefinition } from "../../src/services/service.ts";
import { type DiscoveryInside, startDiscovery } from "./discovery-service.ts";
import { queryBytes, responseText } from "./dns-text.ts";
import { rule as plainRule, span } from "./policies.ts";
import { type ModelEntry, PolicyModel } from "./policy-model.ts";
import { keyText, PolicyStream, Sightings } from "./policy-stream.ts";
import { askRoute } from "./route.ts";

export interface WorldSize {
  readonly tenants: number;
  /** Dot-separated, some below others. */
  readonly namespaces: readonly string[];
  readonly maxRules: number;
  /** Viewers asked after each step. */
  readonly viewersAStep: number;
  readonly streams: number;
  /** Registrations in one write. */
  readonly burst: number;
}

const CLUSTERS = ["local", "other"] as const;
const TAGS = ["blue", "green"] as const;
const NAMES = 4;
const STEP_MS = 11_000;
const PAGE = 7;
const ADMIN: Caller = { principal: "admin", tenant: "", cluster: "local", roles: MESH_ROLES, isAuthenticated: true, address: "192.0.2.9" };
const DNS_VIEWER = { cluster: "local", tenant: "" } as const;

export class PolicyWorld {
  readonly model = new PolicyModel();
  readonly #size: WorldSize;
  readonly #rng: Rng;
  readonly #inside: DiscoveryInside;
  #policy: NodePolicy | undefined;
  readonly #responder: DnsResponder;
  readonly #dns: ReturnType<typeof dnsCatalog>;
  readonly #streams: PolicyStream[] = [];
  readonly #seen = new Sightings();
  readonly #history: PolicySet[] = [];
  /** Set while a call is under way that puts it in force. */
  #next: PolicySet | undefined;
  #elapsedMs = 0;
  #port = 0;
  readonly #startMonoMs = performance.now();
  readonly #startWallMs = realNow().wallMs;
  /** What happened how often, for a report and to see that the history is not dull. */
  readonly counts = new Map<string, number>();

  private constructor(size: WorldSize, seed: string, inside: DiscoveryInside) {
    this.#size = size;
    this.#rng = new Rng(seed);
    this.#inside = inside;
    const { core, settings } = inside;
    this.#dns = dnsCatalog(() => 0, core);
    const { dns, catalog } = settings;
    const { minTtlMs, maxTtlMs, staleTtlMs, negativeTtlMs, allowExternalNames, srvPriority, srvTiers } = dns;
    const times = { minTtlMs, maxTtlMs, staleTtlMs, negativeTtlMs, defaultTtlMs: catalog.defaultLeaseTtlMs };
    const zones = dns.zones.map(parseZone);
    this.#responder = new DnsResponder({
      settings: { zones, reverseZones: [], nodeId: core.identity.nodeId, allowExternalNames, srvPriority, srvTiers, ...times },
      planBytes: dns.planBytes,
      random: () => 0.5,
      serialOf: () => 1,
    });
  }

  static async open(size: WorldSize, seed: string): Promise<PolicyWorld> {
    const inside = await startDiscovery();
    const world = new PolicyWorld(size, seed, inside);
    const { core, settings, audit, store } = inside;
    const watched = { ...core, switchPolicy: () => world.#switch() };
    const log = openLog({ level: "silent", scopes: new Map(), format: "json" }).child("policy");
    world.#policy = await openNodePolicy({ settings, log, core: watched, audit, store, mayBeOthers: () => false, tick: () => () => {} });
    await world.#publishNode();
    for (let i = 0; i < size.streams; i++) world.#streams.push(world.#newStream(i));
    world.#showChanges();
    return world;
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.close();
    await this.#inside.stop();
  }

  get entryCount(): number {
    return this.model.entries.length;
  }

  /** One random thing happens, time goes on, and everything is compared. */
  async step(): Promise<void> {
    this.#elapsedMs += STEP_MS;
    const dice = this.#rng.int(100);
    if (dice < 40) await this.#register();
    else if (dice < 55) await this.#unregister();
    else if (dice < 75) await this.#apply(this.#randomSet());
    else if (dice < 87) await this.#apply(this.#changedSet());
    else if (dice < 95) await this.#rollback();
    else this.#count("nothing");
    await this.#expire();
    this.#checkStreams();
    await this.#checkViewers();
    this.#reconnect();
  }

  /** The text of /metrics. */
  async metrics(): Promise<string> {
    return (await openScraper(this.#inside.core.metrics)("")).body;
  }

  // ---- what happens ----

  async #register(): Promise<void> {
    const tenant = this.#tenant();
    const caller = this.#callerOf(tenant, "local");
    const scope = 1 + this.#rng.int(4);
    const isStatic = this.#rng.int(3) === 0;
    const ttlMs = 15_500 + 1000 * this.#rng.int(200);
    let made: ModelEntry[] = [];
    for (let i = 1 + this.#rng.int(this.#size.burst); i > 0; i--) {
      const namespace = this.#namespace();
      const name = `web${this.#rng.int(NAMES)}`;
      const key = `${namespace}|${name}|${tenant}-${this.#rng.int(2)}`;
      if (made.some((entry) => entry.key === key)) continue;
      const tags = TAGS.filter(() => this.#rng.int(2) === 0);
      const aliases = this.#rng.int(4) === 0 ? [this.#alias()] : [];
      const expiresMonoMs = isStatic ? undefined : this.#now().monoMs + ttlMs;
      made.push({ key, namespace, name, scope, tags, aliases, expiresMonoMs });
    }
    // A request is taken as a whole or not at all: mostly one without what is refused.
    const viewer = { cluster: "local", tenant };
    const mayPut = (entry: ModelEntry) => this.model.isAdmitted(entry) && this.model.sees(viewer, entry.namespace);
    if (this.#rng.int(5) > 0) made = made.filter(mayPut);
    if (made.length === 0) return;
    const entries = made.map(({ key, namespace, name, tags, aliases }) => ({
      key: { namespace, name, kind: 1, instanceId: key.split("|")[2] ?? "" },
      scope,
      tags: [...tags],
      aliases: [...aliases],
      // DNS says equal targets once.
      targets: [{ host: "192.0.2.1", port: ++this.#port }],
    }));
    const isAllowed = made.every(mayPut);
    const ttl = { seconds: BigInt(Math.floor(ttlMs / 1000)), nanos: (ttlMs % 1000) * 1e6 };
    const request = { entries, ...(isStatic ? { staticLease: true } : { ttl }) };
    const answer = await this.#ask("register", caller, RegisterRequestSchema, request, RegisterResponseSchema);
    assert.equal(answer !== undefined, isAllowed, "a registration was decided otherwise than the model says");
    this.#count(isAllowed ? "registered" : "refused");
    if (!isAllowed) return;
    const keys = new Set(made.map(({ key }) => key));
    this.model.entries = [...this.model.entries.filter(({ key }) => !keys.has(key)), ...made];
    this.#showChanges();
  }

  async #unregister(): Promise<void> {
    const { entries } = this.model;
    if (entries.length === 0) return;
    const doomed = entries[this.#rng.int(entries.length)]!;
    const [namespace = "", name = "", instanceId = ""] = doomed.key.split("|");
    const tenant = instanceId.split("-")[0] ?? "";
    const request = { keys: [{ namespace, name, kind: 1, instanceId, clusterId: "local" }] };
    const caller = this.#callerOf(tenant, "local");
    const answer = await this.#ask("unregister", caller, UnregisterRequestSchema, request, UnregisterResponseSchema);
    assert.equal(answer?.removed, 1);
    this.model.entries = entries.filter((entry) => entry !== doomed);
    this.#count("unregistered");
    this.#showChanges();
  }

  async #expire(): Promise<void> {
    const time = this.#now();
    const { core } = this.#inside;
    core.registrar.tick(time);
    await core.driver.durable();
    const left = this.model.entries.filter(({ expiresMonoMs }) => expiresMonoMs === undefined || expiresMonoMs > time.monoMs);
    if (left.length < this.model.entries.length) this.#count("expired");
    this.model.entries = left;
  }

  async #apply(set: PolicySet): Promise<void> {
    this.#next = set;
    const request = { policy: encodePolicySet(set, 0), reason: "test" };
    const answer = await this.#ask("applyPolicy", ADMIN, ApplyPolicyRequestSchema, request, ApplyPolicyResponseSchema);
    assert(answer !== undefined, "a policy was refused");
    this.#next = undefined;
    this.#history.push(set);
    this.#count("applied");
  }

  async #rollback(): Promise<void> {
    if (this.#history.length < 2) return;
    const to = Math.max(1, this.#history.length - this.#rng.int(5));
    this.#next = this.#history[to - 1];
    const request = { toNumber: BigInt(to) };
    await this.#ask("rollbackPolicy", ADMIN, RollbackPolicyRequestSchema, request, RollbackPolicyResponseSchema);
    this.#history.push(this.#next!);
    this.#next = undefined;
    this.#count("rolled back");
  }

  /** In place of the node's own: it looks for leaks before and while every listener is brought in line. */
  async #switch(): Promise<void> {
    if (this.#next !== undefined) this.model.set = this.#next;
    this.#showChanges();
    this.#checkLeaks();
    const switched = this.#inside.core.switchPolicy();
    this.#checkLeaks();
    await switched;
  }

  /** Somebody comes back with an older cursor, or without one. */
  #reconnect(): void {
    for (const stream of this.#streams) {
      if (stream.isOpen && this.#rng.int(4) > 0) continue;
      const from = stream.savedCount > 0 && this.#rng.int(5) > 0 ? this.#rng.int(stream.savedCount) : undefined;
      const isIn = stream.open(from);
      const { namespace } = stream.filter;
      assert.equal(isIn, namespace === "" || this.model.sees(stream.viewer, namespace), `a watch of ${namespace} was decided wrongly`);
      this.#count(isIn ? "reconnected" : "watch refused");
    }
  }

  // ---- what is compared ----

  #checkStreams(): void {
    // Whoever was given a bookmark in between is due for another.
    this.#elapsedMs += STEP_MS;
    for (const stream of this.#streams) {
      if (!stream.isOpen) continue;
      const { viewer, filter } = stream;
      const { settledCount } = stream;
      const taken = stream.pull(this.#now(), 5000, (namespace) => this.model.sees(viewer, namespace));
      assert(taken < 5000, "messages without end");
      assert(stream.settledCount > settledCount, "neither END nor bookmark");
      const expected = this.model
        .visible(viewer)
        .filter(({ namespace, tags }) => covers(filter, namespace) && filter.tags.every((tag) => tags.includes(tag)))
        .map(({ key }) => key);
      const held = [...stream.held.keys()].filter((key) => !key.startsWith("discovery."));
      assert.deepEqual(held.toSorted(), expected.toSorted(), `a watch of ${JSON.stringify(filter)} by ${viewer.tenant}@${viewer.cluster}`);
    }
  }

  async #checkViewers(): Promise<void> {
    for (let i = 0; i < this.#size.viewersAStep; i++) {
      const viewer = this.#callerOf(i === 0 ? "" : this.#tenant(), CLUSTERS[this.#rng.int(2)]!);
      const visible = this.model.visible(viewer);
      await this.#checkQueries(viewer, visible);
      for (let n = 0; n < 4; n++) await this.#checkOne(viewer, visible, this.#namespace(), `web${this.#rng.int(NAMES)}`);
      const groups = askRoute(this.#inside.service, { path: "/sd/prometheus", caller: viewer }).page as unknown as readonly {
        readonly labels: Readonly<Record<string, string>>;
      }[];
      const listed = groups.map(({ labels }) =>
        ["namespace", "name", "instance"].map((label) => labels[`__meta_waymark_${label}`]).join("|"),
      );
      assert.deepEqual(listed.toSorted(), visible.map(({ key }) => key).toSorted(), "/sd/prometheus");
    }
    for (let n = 0; n < 6; n++) this.#checkDns(this.#namespace(), `web${this.#rng.int(NAMES)}`);
  }

  async #checkQueries(viewer: Caller, visible: readonly ModelEntry[]): Promise<void> {
    const namespace = this.#namespace();
    const tags = this.#rng.int(2) === 0 ? [] : [TAGS[this.#rng.int(2)]!];
    const filters = [
      { namespace: "", namespacePrefix: "", tags },
      { namespace, namespacePrefix: "", tags: [] },
      { namespace: "", namespacePrefix: namespace.split(".")[0] ?? "", tags },
    ];
    for (const filter of filters) {
      const matching = visible.filter((entry) => covers(filter, entry.namespace) && filter.tags.every((tag) => entry.tags.includes(tag)));
      assert.deepEqual(await this.#pages(viewer, filter), matching.map(({ key }) => key).toSorted(), `query ${JSON.stringify(filter)}`);
    }
  }

  async #pages(viewer: Caller, filter: PolicyStream["filter"]): Promise<readonly string[]> {
    const keys: string[] = [];
    const limit = this.#rng.int(2) === 0 ? Math.max(PAGE, Math.ceil(this.entryCount / 20)) : 1000;
    for (let pageToken = ""; ; ) {
      const explain = this.#rng.int(4) === 0;
      const request = { ...filter, tags: [...filter.tags], kinds: [1], limit, pageToken, explain };
      const page = await this.#ask("catalogQuery", viewer, CatalogQueryRequestSchema, request, CatalogQueryResponseSchema);
      assert(page !== undefined);
      for (const { key } of page.explanation) this.#checkNamed(viewer, key, "an explanation");
      keys.push(...page.items.map(({ key }) => keyText(key)));
      pageToken = page.nextPageToken;
      if (pageToken === "") return keys.toSorted();
      const inside = Buffer.from(pageToken, "base64url").toString("latin1");
      for (const namespace of this.#size.namespaces)
        assert(
          !inside.includes(`${namespace}\0`) || this.model.sees(viewer, namespace.slice(0)) || isInside(inside, namespace),
          "a page token",
        );
    }
  }

  #checkNamed(viewer: Caller, key: EntryKey | undefined, where: string): void {
    if (key?.namespace.startsWith("discovery.") === true) return;
    assert(
      this.model.visible(viewer).some((entry) => entry.key === keyText(key)),
      `${where} names ${keyText(key)}`,
    );
  }

  async #checkOne(viewer: Caller, visible: readonly ModelEntry[], namespace: string, name: string): Promise<void> {
    const about = `${name} in ${namespace} for ${viewer.tenant}@${viewer.cluster}`;
    const here = visible.filter((entry) => entry.namespace === namespace);
    const named = here.filter((entry) => entry.name === name).map(({ key }) => key);
    const resolved = await this.#ask("resolve", viewer, ResolveRequestSchema, { namespace, name, limit: 100 }, ResolveResponseSchema);
    const found = resolved === undefined ? [] : [resolved.entry, ...resolved.alternatives].map((entry) => keyText(entry?.key));
    assert.deepEqual(found.toSorted(), named.toSorted(), `resolve ${about}`);
    const status = await this.#ask("namespaceStatus", viewer, NamespaceStatusRequestSchema, { namespace }, NamespaceStatusResponseSchema);
    const sees = this.model.sees(viewer, namespace);
    assert.deepEqual([status?.allowed, status?.endpointCount], [sees, BigInt(here.length)], `status ${about}`);
    for (const action of [Act.QUERY, Act.WATCH]) {
      const answer = await this.#ask("explain", viewer, ExplainRequestSchema, { namespace, action }, ExplainResponseSchema);
      assert.equal(answer?.allowed, sees, `explain ${Act[action]} ${about}`);
      // Explain is for who may read the policy; others are not told whether a rule hides a namespace or none opens it.
      assert.equal(status?.reason, sees ? answer.reason : "viewer_denied", `reason ${Act[action]} ${about}`);
    }
    const map = await this.#ask("clusterMap", viewer, ClusterMapRequestSchema, { namespaceFilter: namespace }, ClusterMapResponseSchema);
    const holds = visible.some((entry) => covers({ namespace: "", namespacePrefix: namespace }, entry.namespace));
    assert.equal(map?.nodes.length, holds ? 1 : 0, `cluster map ${about}`);
    await this.#checkExport(namespace);
  }

  async #checkExport(namespace: string): Promise<void> {
    const wallMs = this.#startWallMs + (this.#rng.int(8) - 1) * 1000;
    const scope = 1 + this.#rng.int(4);
    const request = { namespace, action: Act.EXPORT_SUMMARY, scope, at: timestampFromMs(wallMs), viewer: { clusterId: "local" } };
    const answer = await this.#ask("explain", ADMIN, ExplainRequestSchema, request, ExplainResponseSchema);
    assert.equal(answer?.allowed, this.model.exports(namespace, scope, wallMs), `export of ${namespace} at an edge`);
  }

  #checkDns(namespace: string, name: string): void {
    const visible = this.model.visible(DNS_VIEWER);
    const found = visible.filter((entry) => entry.namespace === namespace && entry.name === name);
    const srv = this.#dnsText(`_svc._tcp.${name}.${namespace}`, "SRV");
    assert.equal(srv.split("\n").filter((line) => line.startsWith("answer")).length, found.length, `DNS ${name}.${namespace}`);
    const absent = this.#dnsText(`_svc._tcp.${name}.no.such.name`, "SRV");
    if (found.length === 0) assert.equal(srv, absent, "hidden and absent differ");
    // In DNS what is above a name is what it ends in.
    const aliasesOf = (entry: ModelEntry) => this.model.aliasesOf(entry).filter((alias) => this.model.seesAlias(DNS_VIEWER, alias));
    const namesOf = (entry: ModelEntry) => [entry.namespace, ...aliasesOf(entry)];
    const isAbove = visible.some((entry) => namesOf(entry).some((each) => `.${each}`.endsWith(`.${namespace}`)));
    assert.equal(this.#dnsText(namespace, "TXT") !== absent, isAbove, `DNS ${namespace} is there`);
    const alias = this.#alias();
    const isAlias = visible.some((entry) => aliasesOf(entry).includes(alias));
    assert.equal(this.#dnsText(alias, "A") !== absent, isAlias, `DNS alias ${alias}`);
  }

  /** In a namespace that nobody has entries in, or in anybody's. */
  #alias(): string {
    return this.#rng.int(3) === 0 ? `www${this.#rng.int(9)}.ali` : `www${this.#rng.int(3)}.${this.#namespace()}`;
  }

  #dnsText(name: string, type: string): string {
    const reply = this.#responder.respond(queryBytes({ name: `${name}.waymark`, type }), "tcp", () => onlyView(this.#dns));
    assert(reply !== undefined && reply.fault === undefined, String(reply?.fault));
    return responseText(reply.bytes);
  }

  /** Between two policies everybody sees at most what the new one says of namespaces. */
  #checkLeaks(): void {
    for (const stream of this.#streams)
      if (stream.isOpen) stream.pull(this.#now(), this.#rng.int(4), (namespace) => this.model.sees(stream.viewer, namespace));
    for (let n = 0; n < 3; n++) {
      const namespace = this.#namespace();
      if (this.model.sees(DNS_VIEWER, namespace)) continue;
      for (let i = 0; i < NAMES; i++)
        assert.match(this.#dnsText(`_svc._tcp.web${i}.${namespace}`, "SRV"), /^NXDOMAIN/, `DNS leaks ${namespace}`);
    }
    const viewer = this.#callerOf(this.#tenant(), CLUSTERS[this.#rng.int(2)]!);
    const page = this.#inside.service.handlers["catalogQuery"];
    assert(page?.kind === "unary");
    const request = create(CatalogQueryRequestSchema, { limit: 1000 });
    const answer = page.handle(request as never, { caller: viewer, time: this.#now(), requestId: "" });
    assert(answer instanceof Uint8Array);
    for (const { key } of fromBinary(CatalogQueryResponseSchema, answer).items)
      assert(
        key?.namespace.startsWith("discovery.") === true || this.model.sees(viewer, key?.namespace ?? ""),
        `a query leaks ${keyText(key)}`,
      );
  }

  // ---- chance ----

  #randomSet(): PolicySet {
    const rules = new Map<string, NamespaceRule>();
    for (let i = this.#rng.int(this.#size.maxRules + 1); i > 0; i--) {
      const rule = this.#randomRule();
      rules.set(rule.pattern, rule);
    }
    return { version: "random", defaultAllow: this.#rng.int(3) > 0, rules: [...rules.values()] };
  }

  /** The policy of now with one rule put in or taken out. */
  #changedSet(): PolicySet {
    const before = this.model.set ?? { version: "first", defaultAllow: true, rules: [] };
    const rule = this.#randomRule();
    const rules = before.rules.filter(({ pattern }) => pattern !== rule.pattern);
    if (rules.length > 0 && this.#rng.int(3) === 0) rules.splice(this.#rng.int(rules.length), 1);
    else rules.splice(this.#rng.int(rules.length + 1), 0, rule);
    return { ...before, version: "changed", rules };
  }

  #randomRule(): NamespaceRule {
    const labels = this.#namespace().split(".");
    const prefix = labels.slice(0, 1 + this.#rng.int(labels.length)).join(".");
    const some = <T>(from: readonly T[], max: number): T[] => [
      ...new Set(Array.from({ length: this.#rng.int(max + 1) }, () => this.#pick(from))),
    ];
    const windows = Array.from({ length: this.#rng.int(3) }, () => {
      const startsWallMs = this.#startWallMs + this.#rng.int(6) * 1000;
      const endsWallMs = this.#rng.int(3) === 0 ? undefined : startsWallMs + 1000 * (1 + this.#rng.int(3));
      const allowSummaries = [true, false, undefined][this.#rng.int(3)];
      return span(startsWallMs, endsWallMs, { exportScopes: some<Scope>([1, 2, 3, 4], 2), allowSummaries });
    });
    return plainRule(this.#rng.int(3) === 0 ? `${prefix}.*` : prefix, {
      owners: this.#rng.int(3) === 0 ? some(["local", "other"], 1) : [],
      visibility: this.#rng.int(4) === 0 ? some(CLUSTERS, 1) : [],
      visibilityTenants: some([...this.#tenants(), "nobody"], 3),
      exportScopes: some<Scope>([3, 4], 2),
      allowSummaries: this.#rng.int(2) === 0,
      cutoverWindows: windows,
    });
  }

  #newStream(i: number): PolicyStream {
    const viewer = this.#callerOf(i % 5 === 0 ? "" : this.#tenant(), CLUSTERS[this.#rng.int(2)]!);
    const namespace = this.#namespace();
    const filters = [
      { namespace: "", namespacePrefix: "", tags: [] },
      { namespace: "", namespacePrefix: namespace.split(".")[0] ?? "", tags: [] },
      { namespace, namespacePrefix: "", tags: [] },
      { namespace: "", namespacePrefix: "", tags: [TAGS[0]] },
    ];
    return new PolicyStream(this.#inside.service, viewer, filters[i % filters.length]!, { now: () => this.#now(), seen: this.#seen });
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#rng.int(from.length)]!;
  }

  #namespace(): string {
    return this.#pick(this.#size.namespaces);
  }

  #tenants(): readonly string[] {
    return Array.from({ length: this.#size.tenants }, (_, i) => `t${i}`);
  }

  #tenant(): string {
    return `t${this.#rng.int(this.#size.tenants)}`;
  }

  #callerOf(tenant: string, cluster: string): Caller {
    return { principal: tenant, tenant, cluster, roles: ["mesh.read"], isAuthenticated: tenant !== "", address: "192.0.2.1" };
  }

  // ---- the node ----

  /** Only steps move it: on a slow machine the model and the node would else judge by clocks that stand apart. */
  #now(): Time {
    return { monoMs: this.#startMonoMs + this.#elapsedMs, wallMs: this.#startWallMs + this.#elapsedMs };
  }

  /** What is visible now may be told of from now on. */
  #showChanges(): void {
    this.#seen.tick += 1;
    const viewers = new Map(this.#streams.map(({ viewer }) => [`${viewer.tenant}@${viewer.cluster}`, viewer]));
    for (const viewer of viewers.values()) this.#seen.note(viewer, this.#visibleKeys(viewer));
  }

  #visibleKeys(viewer: Caller): readonly string[] {
    const { nodeId } = this.#inside.core.identity;
    return [`discovery.nodes|${nodeId}|${nodeId}`, ...this.model.visible(viewer).map(({ key }) => key)];
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  async #publishNode(): Promise<void> {
    const { core } = this.#inside;
    const entry = nodeEntry({
      nodeId: core.identity.nodeId,
      name: undefined,
      roles: [],
      resources: [],
      labels: {},
      dnsZones: [],
      listeners: { grpc: { host: "127.0.0.1", port: 1 } },
    });
    const time = this.#now();
    const stampedEntries = [core.stamper.entryOfNode(entry, { ...core.identity, tenantId: "", receivedWallMs: time.wallMs })];
    const command = { stampedEntries, ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true };
    core.registrar.register({ ...ADMIN, principal: "node itself" }, command, time);
    await core.driver.durable();
  }

  /** One unary call; undefined where it is refused by policy or finds nothing. */
  async #ask<I extends DescMessage, O extends DescMessage>(
    rpc: string,
    caller: Caller,
    input: I,
    request: MessageInitShape<I>,
    output: O,
  ): Promise<MessageShape<O> | undefined> {
    const services: readonly (ServiceDefinition | undefined)[] = [this.#inside.service, this.#policy?.service];
    const handler = services.map((service) => service?.handlers[rpc]).find((each) => each !== undefined);
    assert(handler?.kind === "unary", rpc);
    try {
      const answer = await handler.handle(create(input, request) as never, { caller, time: this.#now(), requestId: "" });
      if (answer instanceof Uint8Array) return fromBinary(output, answer);
      assert(isMessage(answer, output));
      return answer;
    } catch (error) {
      if (error instanceof WaymarkError && (error.reason === "discovery_access_denied" || error.reason === "not_found")) return undefined;
      throw error;
    }
  }
}

function covers(filter: { readonly namespace: string; readonly namespacePrefix: string }, namespace: string): boolean {
  if (filter.namespace !== "") return namespace === filter.namespace;
  const prefix = filter.namespacePrefix;
  return prefix === "" || namespace === prefix || namespace.startsWith(`${prefix}.`);
}

/** Whether a token's namespace only ends as a longer one does that it really names. */
function isInside(token: string, namespace: string): boolean {
  const at = token.indexOf(`${namespace}\0`);
  return at > 0 && /[a-z0-9.-]/.test(token[at - 1] ?? "");
}
