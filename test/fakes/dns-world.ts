/**
 * A node's catalog under random registrations, removals, origins that go away, and policies, asked over DNS by several views. Every answer is compared
 * with `dns-answers.ts`. No part of it is faked but the node around it: replica, index of names, reads, plans and codec are the product's.
 */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema, TargetSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import type { Scope } from "../../src/catalog/entry/scope.ts";
import { BODY, HEALTH, KIND } from "../../src/catalog/record/record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { DnsNames } from "../../src/discovery/dns-names.ts";
import { isAdmitted } from "../../src/discovery/policy-switch-queue.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import { DnsResponder } from "../../src/dns/server/responder.ts";
import { ZoneSigner } from "../../src/dns/signing/zone-signer.ts";
import { DnsViews, viewersOf } from "../../src/dns/views/views.ts";
import { parsePlainBlock } from "../../src/lib/addresses.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Rng } from "../../src/lib/rng.ts";
import { dnsSelection } from "../../src/node/dns/selection.ts";
import type { NamespaceRule, PolicySet } from "../../src/policy/set/rules.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { type NaiveAnswer, NaiveDns, type NaiveEntry, type NaiveHealth, type NaiveTarget, type NaiveView } from "./dns-answers.ts";
import { TEST_DNS_SETTINGS } from "./dns-catalog.ts";
import { queryBytes, responseText, scopeOf, subnetQuery } from "./dns-text.ts";
import { ZoneOfWorld } from "./dns-zone-world.ts";
import { denialOf, nameOf, readMessage, signatureFaults, signedQuery, TestKeys, TYPE } from "./dnssec.ts";
import { BOUNDS, SETTINGS } from "./options.ts";
import { rule, set } from "./policies.ts";
import { PolicyModel } from "./policy-model.ts";
import { at, Registry } from "./registry.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
/** Where entries come from. */
const ORIGINS = [
  { nodeId: "b", clusterId: "c1", region: "r1", zone: "z1" },
  { nodeId: "c", clusterId: "c1", region: "r1", zone: "z2" },
  { nodeId: "d", clusterId: "c2", region: "r2", zone: "z9" },
] as const;
const NAMESPACES = ["bank", "bank.eu", "pub", "pub.web"] as const;
const NAMES = ["web", "api", "eu"] as const;
const INSTANCES = ["1", "2", "3", "4"] as const;
const KINDS = ["SERVICE", "SERVICE", "SERVICE", "FUNCTION", "QUEUE"] as const;
const HEALTHS = ["HEALTHY", "HEALTHY", "DEGRADED", "CRITICAL", "MAINTENANCE"] as const;
const TENANTS = ["", "red", "blue"] as const;
const ALIASES = [
  "www.bank",
  "www.bank.eu",
  "web.pub",
  "one.web.bank",
  "api.bank",
  "x.y.pub",
  "single",
  "Www.Bank.waymark.",
  "deep.in.none",
] as const;
/** So many that answers are cut now and then. */
const HOSTS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"] as const;
const ELSEWHERE = ["web.example"] as const;
const PREFIXES = [
  "",
  "",
  "",
  "",
  "_svc._tcp.",
  "_svc._tcp.",
  "_svc._udp.",
  "_http._tcp.",
  "_rpc._tcp.",
  "_queue._tcp.",
  "_mpreg._tcp.",
  "_tcp.",
  "one.",
  "no.",
] as const;
const TYPES = ["A", "AAAA", "SRV", "TXT", "CNAME"] as const;
const CODES: Readonly<Record<AskedType, number>> = { A: 1, PTR: 12, AAAA: 28, SRV: 33, TXT: 16, CNAME: 5 };
/** When answers are signed. */
const SIGNED_MS = 1_800_000_000_000;
/** What a name is browsed for. */
const BROWSED = "_services._dns-sd._udp.";
const OFTEN = 40;
/** Whose questions come by a forwarder that is trusted. The longest prefix of an address says what its view is. */
const ROWS = [
  { prefixes: ["10.1.0.0/16"], tenant: "red", cluster: undefined, region: undefined, zone: undefined },
  { prefixes: ["10.1.2.0/24"], tenant: "blue", cluster: undefined, region: "r1", zone: "z2" },
  { prefixes: ["10.2.0.0/15"], tenant: undefined, cluster: "c2", region: "r2", zone: "z9" },
] as const;
const NAIVE_VIEWS: readonly NaiveView[] = [
  { cluster: "c1", tenant: "", region: "", zone: "" },
  { cluster: "c1", tenant: "red", region: "", zone: "" },
  { cluster: "c1", tenant: "blue", region: "r1", zone: "z2" },
  { cluster: "c2", tenant: "", region: "r2", zone: "z9" },
];
/** One address of each view. */
const ADDRESSES = [
  [10, 4, 1, 1],
  [10, 1, 1, 1],
  [10, 1, 2, 1],
  [10, 2, 1, 1],
] as const;
const FORWARDER = "192.0.2.53";
/** For how long the absence of a name is remembered, where no client subnet chose the view. */
const NEGATIVE_TTL = "5";
/** The room of an answer without EDNS, and with it. */
const SIZES = [512, 1232] as const;

const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });

interface Asked {
  readonly relative: string;
  readonly type: AskedType;
}
type AskedType = (typeof TYPES)[number] | "PTR";

export class DnsWorld {
  readonly dns: NaiveDns;
  readonly #rng: Rng;
  readonly #registry = new Registry();
  readonly #policies: { policy: Policy } = { policy: NO_POLICY };
  readonly #model = new PolicyModel();
  readonly #reads: CatalogReads;
  readonly #names: DnsNames;
  #askCount = 0;
  readonly #select: ReturnType<typeof dnsSelection>;
  readonly #zone: ZoneOfWorld;
  #isReady = true;
  readonly #views = new DnsViews(
    ROWS.map((row) => ({ ...row, listener: undefined })),
    [parsePlainBlock(`${FORWARDER}/32`)].filter((block) => block !== undefined),
  );
  readonly #responder: DnsResponder;
  readonly #entries = new Map<string, NaiveEntry & { readonly origin: number }>();
  readonly #away = new Set<number>();
  readonly #counts = new Map<string, number>();
  /** Questions that come again and again, so that plans of them are kept. */
  readonly #asked: readonly Asked[];
  #nowMs = 0;
  #number = 0;

  constructor(seed: string) {
    this.#rng = new Rng(`dns/${seed}`);
    const { replica } = this.#registry;
    replica.setAdmission((stored) => isAdmitted(this.#policies.policy, stored, NODE.clusterId));
    this.#reads = new CatalogReads(replica, NODE, { policies: this.#policies, onDenied: () => undefined });
    this.#names = new DnsNames(replica, ["waymark"]);
    const sources = { reads: this.#reads, replica, dnsNames: this.#names, identity: NODE, policies: this.#policies };
    const viewers = viewersOf({ views: ROWS.map((row) => ({ ...row, listener: undefined })) }, NODE);
    const node = {
      settings: SETTINGS,
      limits: { admitDns: undefined, noteHidden: () => undefined },
      checkCaughtUp: () => {
        if (!this.#isReady) throw new WaymarkError("not_ready", "this node does not know the catalog yet");
      },
      now: () => ({ monoMs: this.#nowMs, wallMs: this.#nowMs }),
      random: () => 0,
    };
    this.#select = dnsSelection({ ...sources, ...node }, viewers, this.#views);
    this.#zone = new ZoneOfWorld(sources, viewers, this.#rng);
    const signer = new ZoneSigner({ keys: new TestKeys(), now: () => ({ monoMs: 1000 * this.#nowMs, wallMs: SIGNED_MS }) });
    this.#responder = new DnsResponder({
      signer,
      settings: { ...TEST_DNS_SETTINGS, zoneKeys: () => signer.keys },
      planBytes: SETTINGS.dns.planBytes,
      random: () => 0.999_999,
      serialOf: (view) => this.#zone.serialOf(view),
    });
    this.#asked = Array.from({ length: OFTEN }, () => this.#newQuestion());
    this.dns = new NaiveDns(this.#model, { zone: "waymark", minTtlSeconds: 1, maxTtlSeconds: 60, staleTtlSeconds: 3 });
  }

  /** How often each thing happened. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  /** One change, and then some questions, of which each is asked twice: from a new plan, and from the kept one. */
  step(): void {
    this.#nowMs += 1;
    const dice = this.#rng.int(100);
    if (dice < 55) this.#put();
    else if (dice < 72) this.#remove();
    else if (dice < 84) this.#turnOrigin();
    else this.#setPolicy();
    this.#names.refresh();
    this.#zone.step();
    this.#isReady = this.#rng.int(20) > 0;
    this.dns.entries = [...this.#entries.values()].map(({ origin, ...entry }) =>
      this.#away.has(origin) && entry.health !== "MAINTENANCE" ? { ...entry, health: "ORPHANED" } : entry,
    );
    for (let n = 0; n < 12; n++) this.#ask();
    this.#askSerial();
  }

  #put(): void {
    const origin = this.#rng.int(ORIGINS.length);
    const entry = this.#newEntry(origin);
    const key = keyOf(entry);
    const held = this.#entries.get(key);
    if (held !== undefined && held.origin !== origin) return;
    this.#receive(entry, BODY.ENTRY, origin);
    this.#entries.set(key, { ...entry, origin });
    this.#count("put");
  }

  #newEntry(origin: number): NaiveEntry {
    const { clusterId: cluster, region, zone } = this.#pick(ORIGINS, origin);
    const kind = this.#pick(KINDS);
    const targets = this.#targets();
    return {
      kind,
      namespace: this.#pick(NAMESPACES),
      name: this.#pick(NAMES),
      instance: this.#pick(INSTANCES),
      cluster,
      region,
      zone,
      tenant: this.#pick(TENANTS),
      isAdmins: this.#rng.int(2) === 0,
      scope: cluster === NODE.clusterId ? 2 + this.#rng.int(2) : 3,
      health: this.#pick(HEALTHS),
      ttlSeconds: this.#pick([1, 7, 20, 90]),
      targets,
      aliases: this.#rng.int(2) === 0 ? [this.#pick(ALIASES)] : [],
    };
  }

  #targets(): readonly NaiveTarget[] {
    const protocol = this.#pick(["tcp", "tcp", "udp"]);
    // Targets of one entry differ, and have host names or addresses, not both.
    const hosts = this.#rng.int(5) === 0 ? ELSEWHERE : HOSTS;
    return hosts
      .filter(() => this.#rng.int(2) === 0)
      .map((host, i) => ({
        name: i === 0 ? "http" : "",
        host,
        port: 80 + this.#rng.int(40),
        protocol,
        priority: this.#pick([0, 5, 2000]),
        weight: this.#rng.int(3),
      }));
  }

  #receive(entry: NaiveEntry, body: (typeof BODY)["ENTRY" | "UNREGISTERED"], origin: number): void {
    const { nodeId, clusterId, region, zone } = this.#pick(ORIGINS, origin);
    const { kind, namespace, name, instance: instanceId, health, ttlSeconds, targets, aliases, scope } = entry;
    const message = create(EntrySchema, {
      key: create(EntryKeySchema, { kind: KIND[kind], namespace, name, instanceId }),
      scope: scope as Scope,
      health: HEALTH[health as Exclude<NaiveHealth, "ORPHANED">],
      ttl: { seconds: BigInt(ttlSeconds) },
      targets: targets.map((target) => create(TargetSchema, target)),
      aliases: [...aliases],
    });
    const stamp = { nodeId, clusterId, region, zone, tenantId: entry.tenant, registeredByAdmin: entry.isAdmins, receivedWallMs: 0 };
    const of = stamper.entryOf(message, 0, stamp);
    this.#registry.replica.origin(nodeId, 1, { clusterId, region });
    this.#registry.receive(of, { body, hlcMs: this.#nowMs, nodeId }, at(this.#nowMs));
  }

  #remove(): void {
    const held = [...this.#entries];
    const [key, entry] = held[this.#rng.int(Math.max(1, held.length))] ?? [];
    if (key === undefined || entry === undefined) return;
    this.#receive(entry, BODY.UNREGISTERED, entry.origin);
    this.#entries.delete(key);
    this.#count("removed");
  }

  #turnOrigin(): void {
    const index = this.#rng.int(ORIGINS.length);
    const { nodeId, clusterId, region } = this.#pick(ORIGINS, index);
    const origin = this.#registry.replica.origin(nodeId, 1, { clusterId, region });
    const isAway = this.#away.has(index);
    if (isAway) this.#away.delete(index);
    else this.#away.add(index);
    this.#registry.replica.setLife(origin, isAway ? "live" : "orphaned");
    this.#count("origin turned");
  }

  #setPolicy(): void {
    const { replica } = this.#registry;
    const before = this.#policies.policy;
    const next = this.#newSet();
    this.#number += 1;
    const after = next === undefined ? NO_POLICY : new Policy(next, this.#number);
    this.#policies.policy = after;
    this.#model.set = next;
    for (const origin of replica.origins.values()) {
      const changed = [...origin.log.list()].filter(
        (stored) => stored.body === BODY.ENTRY && isAdmitted(before, stored, NODE.clusterId) !== isAdmitted(after, stored, NODE.clusterId),
      );
      for (const stored of changed) replica.touch(stored);
    }
    this.#reads.show(after);
    this.#reads.settle(after);
    this.#count("policy");
  }

  #newSet(): PolicySet | undefined {
    if (this.#rng.int(6) === 0) return undefined;
    const rules: NamespaceRule[] = NAMESPACES.flatMap((pattern) => {
      const kind = this.#rng.int(7);
      if (kind < 2) return [rule(pattern, { owners: [kind === 0 ? "c1" : "c2"] })];
      if (kind < 4) return [rule(pattern, { visibilityTenants: [kind === 2 ? "red" : "blue"] })];
      return kind === 4 ? [rule(pattern, { visibility: ["c1"] })] : [];
    });
    return set(rules, { defaultAllow: this.#rng.int(4) > 0 });
  }

  #ask(): void {
    const { relative, type } = this.#rng.int(4) === 0 ? this.#newQuestion() : this.#pick(this.#asked);
    // Of four networks, near the ends of their prefixes too.
    const address = [10, 1 + this.#rng.int(4), 1 + this.#rng.int(3), this.#rng.int(256)];
    const view = viewOf(address);
    if (!this.#isReady) return this.#askUnready({ relative, type }, address);
    const expected = plain(this.dns.answer(this.#pick(NAIVE_VIEWS, view), relative, type), type);
    for (const turn of ["planned", "kept"]) {
      const about = `${relative} ${type} for ${address.join(".")}, ${turn}`;
      const told = this.#told(relative, type, address);
      if (told.isCut) this.#checkCut(told.answer, expected, about);
      else assert.deepEqual(told.answer, expected, about);
    }
    this.#count(expected.lines.length > 0 ? `${type} found` : expected.rcode);
    // By count, so that the same seeds make the same worlds as without it.
    if (++this.#askCount % 32 === 0) this.#askSigned(`${relative}.waymark`, type, expected, address);
  }

  /** As a validator asks. What it gets says the same, with signatures that are good, and denies nothing that is there. */
  #askSigned(name: string, type: AskedType, expected: NaiveAnswer, address: readonly number[]): void {
    const code = CODES[type];
    const about = `${name} ${type}, signed`;
    const ask = (query: Uint8Array) => {
      const asker = { address: address.join("."), transport: "tcp", subnet: undefined } as const;
      const reply = this.#responder.respond(query, "tcp", () => this.#select(asker, undefined));
      assert(reply !== undefined && reply.fault === undefined, String(reply?.fault));
      return readMessage(reply.bytes);
    };
    const keys = ask(signedQuery("waymark", TYPE.DNSKEY)).answers.flatMap((record) => (record.type === TYPE.DNSKEY ? [record.data] : []));
    const { answers, authority, rcode } = ask(signedQuery(name, code, { isCompactOk: true }));
    for (const section of [answers, authority]) assert.deepEqual(signatureFaults(section, keys, SIGNED_MS / 1000), [], about);
    const unsigned = answers.filter((record) => record.type !== TYPE.RRSIG);
    // Of texts only whether there are any, as in `plain`.
    const told = new Set(
      unsigned.map(({ owner, type: each, data }) => `${owner} ${each} ${each === TYPE.TXT ? "" : data.toString("hex")}`),
    );
    assert.deepEqual([rcode === 3, told.size], [expected.rcode === "NXDOMAIN", expected.lines.length], about);
    for (const record of authority.filter((each) => each.type === TYPE.NSEC)) {
      const { types, isMinimal, isAbsent } = denialOf(record);
      assert.deepEqual([isMinimal, isAbsent, types.includes(code)], [true, rcode === 3, false], about);
      if (isAbsent) continue;
      const there = Object.values(CODES).filter((each) =>
        ask(signedQuery(nameOf(record.owner), each)).answers.some((other) => other.type === each),
      );
      assert.deepEqual(
        there.filter((each) => !types.includes(each)),
        [],
        `${about}: what is there`,
      );
    }
    this.#count(authority.length > 0 ? "denied" : "signed");
  }

  /** Who does not know the catalog says so, and says of no name that it is not there. */
  #askUnready({ relative, type }: Asked, address: readonly number[]): void {
    const bytes = this.#respond(relative, type, address, 32);
    assert.equal(responseText(bytes), "SERVFAIL", `${relative} ${type} before the node is ready`);
    this.#count("unready");
  }

  /** The serial of a view that a secondary server is told never goes back, also when the node starts again or its clock is set back. */
  #askSerial(): void {
    if (!this.#isReady) return;
    const view = this.#rng.int(NAIVE_VIEWS.length);
    const address = this.#pick(ADDRESSES, view);
    const soa = responseText(this.#respond("", "SOA", address, 32))
      .split("\n")
      .find((line) => line.startsWith("answer"));
    this.#zone.checkTold(view, Number(soa?.split(" ").at(-5)));
    this.#count("serial");
  }

  /** What is cut says so, and what it has is true. */
  #checkCut(cut: NaiveAnswer, { rcode, lines }: NaiveAnswer, about: string): void {
    assert.equal(cut.rcode, rcode, about);
    assert(cut.lines.length > 0 && cut.lines.length < lines.length && cut.lines.every((line) => lines.includes(line)), about);
    this.#count("cut");
  }

  #newQuestion(): Asked {
    const alias = this.#pick(ALIASES)
      .toLowerCase()
      .replace(/(\.waymark)?\.?$/, "");
    const place = this.#rng.int(3) === 0 ? alias : this.#place();
    if (this.#rng.int(8) === 0) return { relative: `${BROWSED}${this.#pick(NAMESPACES)}`, type: "PTR" };
    return { relative: `${this.#pick(PREFIXES)}${place}`, type: this.#pick(TYPES) };
  }

  #place(): string {
    const namespace = this.#pick(NAMESPACES);
    return this.#rng.int(6) === 0 ? namespace : `${this.#pick(NAMES)}.${namespace}`;
  }

  /** The bytes of the answer to who asks through the forwarder, or (32 bits and `isDirect`) by themselves. */
  #respond(relative: string, type: string, address: readonly number[], sourcePrefix: number, isDirect = false): Uint8Array {
    const isUdp = this.#rng.int(2) === 0;
    const name = relative === "" ? "waymark" : `${relative}.waymark`;
    const query = isDirect
      ? queryBytes({ name, type, bufsize: this.#pick(SIZES) })
      : subnetQuery({ name, type, address, sourcePrefix, sizeBytes: this.#pick(SIZES) });
    const transport = isUdp ? "udp" : "tcp";
    const from = isDirect ? address.join(".") : FORWARDER;
    const reply = this.#responder.respond(query, transport, (subnet) => this.#select({ address: from, transport, subnet }, undefined));
    assert(reply !== undefined && reply.fault === undefined, String(reply?.fault));
    return reply.bytes;
  }

  #told(relative: string, type: AskedType, address: readonly number[]): { readonly answer: NaiveAnswer; readonly isCut: boolean } {
    const isDirect = this.#rng.int(4) === 0;
    const bytes = this.#respond(relative, type, address, this.#rng.int(2) === 0 ? 32 : 24, isDirect);
    const [flags = "", ...lines] = responseText(bytes).split("\n");
    const answers = lines.flatMap((line) => (line.startsWith("answer") ? [line.slice(11)] : []));
    const words = flags.split(" ");
    const isCut = words.includes("tc");
    const rcode = words[0] === "NXDOMAIN" ? "NXDOMAIN" : "NOERROR";
    const isEmpty = answers.every((line) => line.includes(" CNAME "));
    const soa = lines.find((line) => line.startsWith("authority") && line.includes(" SOA "));
    if (isEmpty && type !== "CNAME" && !isCut) assert(answers.length > 0 || soa !== undefined, "an answer without records has no SOA");
    // RFC 7871, 7.4: a forwarder keeps what is not there for everybody. Others keep it for as long, whether it is hidden or not there.
    const kept = isDirect ? NEGATIVE_TTL : "0";
    if (soa !== undefined) assert.equal(soa.slice(11).split(" ")[1], kept, `how long ${relative} may be remembered not to be there`);
    if (!isDirect) this.#checkScope(bytes, address);
    return { answer: plain({ rcode, lines: answers }, type), isCut };
  }

  /** Everybody within the scope that is told has the view of the asker, because a forwarder tells them the same. */
  #checkScope(bytes: Uint8Array, address: readonly number[]): void {
    const scope = scopeOf(bytes);
    for (let n = 0; n < 8; n++) {
      const other = withinPrefix(address, scope, () => this.#rng.int(256));
      assert.equal(viewOf(other), viewOf(address), `${other.join(".")} is within ${scope} bits of ${address.join(".")}`);
    }
  }

  #pick<T>(from: readonly T[], index = this.#rng.int(from.length)): T {
    const found = from[index];
    assert(found !== undefined);
    return found;
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }
}

/** Without order, and of texts only whether there are any: their content is in goldens. */
function plain({ rcode, lines }: NaiveAnswer, type: string): NaiveAnswer {
  const shown = type === "TXT" ? lines.map((line) => (line.includes(" TXT ") ? line.split(" ").slice(0, 3).join(" ") : line)) : lines;
  return { rcode, lines: [...new Set(shown)].toSorted() };
}

function keyOf({ kind, namespace, name, instance, cluster }: NaiveEntry): string {
  return [kind, namespace, name, instance, cluster].join("|");
}

function viewOf([first = 0, second = 0, third = 0]: readonly number[]): number {
  if (first !== 10) return 0;
  if (second === 1) return third === 2 ? 2 : 1;
  return second === 2 || second === 3 ? 3 : 0;
}

/** An address with the same first `bits` bits. */
function withinPrefix(address: readonly number[], bits: number, random: () => number): readonly number[] {
  return address.map((byte, i) => {
    const kept = Math.min(8, Math.max(0, bits - 8 * i));
    const mask = (0xff << (8 - kept)) & 0xff;
    return (byte & mask) | (random() & ~mask & 0xff);
  });
}
