/** What the DNS of a resolver answers, by what is followed, fetched, hidden and out of reach; and what it fetches for that. */
import { expect, test } from "vitest";
import { ListCursor } from "../../../src/catalog/query/ordered-records.ts";
import { KIND, keyText } from "../../../src/catalog/record/record.ts";
import { claimOf } from "../../../src/discovery/alias-claim.ts";
import { DnsNames, type NameView } from "../../../src/discovery/dns-names.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { LOCATED_KINDS } from "../../../src/dns/names/names.ts";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { ResponseRates } from "../../../src/dns/server/response-rate.ts";
import type { PendingNameError } from "../../../src/dns/subject/remote-lookup.ts";
import { AliasOwnerCache, type AliasOwners, aliasOwnersFrom, type CachedAliasOwner } from "../../../src/dns/views/alias-owners.ts";
import { type DnsSources, dnsCatalog } from "../../../src/dns/views/catalog.ts";
import { FetchingRemoteLookup } from "../../../src/dns/views/fetching-remote-lookup.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import type { AnswerQuality } from "../../../src/resolver/io-types.ts";
import { AnswerCounts } from "../../../src/resolver/maintenance/statistics.ts";
import { TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { queryBytes, responseText } from "../../fakes/dns-text.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, caller, draftAt, Registry } from "../../fakes/registry.ts";
import { ask, newResponder, questionBytes } from "../asking.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
/** Nobody without a tenant sees `svc.secret`. */
const HIDING = new Policy(set([rule("svc.secret", { visibilityTenants: ["red"] })], { defaultAllow: true }), 1);
const SECONDS = 1000;
/** The option of the extended error 22 (RFC 8914) as hexadecimal digits. */
const EDE_22 = "000f00020016";
/** Namespace, name, aliases. */
const ENTRIES = [
  ["svc.market", "web", []],
  ["svc.other", "far", ["shop.example", "deep.below.example"]],
  ["svc.secret", "hidden", ["own.example"]],
] as const;

class World {
  policy = NO_POLICY;
  isCutOff = false;
  isFailing = false;
  /** Whether the upstream stands still: it tells of no carriers, and no call to it fails. */
  isSilent = false;
  ms = 0;
  followed: readonly string[] = ["svc.market"];
  /** What was asked of the upstream since the last look. */
  readonly asked: string[] = [];
  readonly counts = new AnswerCounts();
  readonly aliasOwners = new AliasOwnerCache({
    ttlMs: 15 * SECONDS,
    negativeMs: 10 * SECONDS,
    maxStaleMs: 60 * SECONDS,
    maxBytes: 100_000,
  });
  readonly #fetched = new Map<string, number>();
  /** Of what was fetched that which existed then. */
  readonly #found = new Set<string>();
  readonly #registry = new Registry();
  readonly #reads: CatalogReads;
  readonly #dnsNames: DnsNames;
  readonly catalog: ReturnType<typeof dnsCatalog>;
  /** Namespaces, once for each time that they counted as asked for. */
  readonly countedIn: string[] = [];
  readonly #remoteLookup: FetchingRemoteLookup;
  readonly #responder = newResponder({
    settings: { defaultTtlMs: 5 * SECONDS, staleTtlMs: 3 * SECONDS, reverseZones: ["2.0.192.in-addr.arpa"] },
  });
  #inputCount = 0;
  /** The number of the last arrival of each name. */
  readonly #arrivals = new Map<string, number>();
  #letGoCount = 0;

  constructor() {
    this.#put(ENTRIES);
    const { replica } = this.#registry;
    this.#reads = new CatalogReads(replica, NODE, { policies: this, onDenied: () => {} });
    this.#dnsNames = new DnsNames(replica, ["waymark"], [{ bytes: Uint8Array.of(192, 0, 2, 0), prefixBits: 24 }]);
    this.#remoteLookup = new FetchingRemoteLookup({
      machine: {
        isComplete: (namespace) => this.#isComplete(namespace),
        fetchedLeftMs: ({ namespace, name, kind }) => {
          const arrivedMs = this.#fetched.get(`${namespace} ${name} ${kind}`);
          return arrivedMs === undefined ? undefined : arrivedMs + 15 * SECONDS - this.ms;
        },
        fetchedMark: ({ namespace, name }) => this.#arrivals.get(`${namespace} ${name}`),
        fetchedAnswer: ({ namespace, name, kind }) => this.#fetchedAnswer(`${namespace} ${name} ${kind}`),
        upstreams: this as never,
        counts: this.counts,
      },
      ask: ({ namespace, name, kind }, { isFurther }, told) => {
        if (isFurther !== true) this.countedIn.push(namespace);
        if (this.#isComplete(namespace)) return { source: "followed", isStale: false, ageMs: 0 };
        const key = `${namespace} ${name} ${kind}`;
        const known = this.#fetchedAnswer(key);
        if (known !== undefined) return known;
        if (this.isCutOff) throw new WaymarkError("not_ready", "nobody");
        this.asked.push(key);
        queueMicrotask(() => {
          this.#inputCount += 1;
          if (!this.isFailing) this.#fetched.set(key, this.ms);
          if (!this.isFailing) this.#arrivals.set(`${namespace} ${name}`, this.#inputCount);
          if (this.#has(namespace, name)) this.#found.add(key);
          else this.#found.delete(key);
          told(this.isFailing ? new WaymarkError("not_ready", "failed") : undefined);
        });
        return undefined;
      },
      isHeld: () => false,
      aliasOwners: this.aliasOwners,
      askAliasOwners: (name, zone, told) => {
        const found = this.#askAliasOwners(name, zone);
        if (!this.isSilent) queueMicrotask(() => told(found));
      },
      inputCount: () => this.#inputCount,
      judgedRevision: () => this.#reads.policyRevision + this.#letGoCount,
      now: () => at(this.ms),
    });
    this.#dnsNames.refresh();
    // Only what is followed is known by its names.
    const followed = (view: NameView) => ({ ...view, sees: (namespace: string) => this.#isComplete(namespace) && view.sees(namespace) });
    const dnsNames: DnsSources["dnsNames"] = {
      catchUp: () => this.#dnsNames.catchUp(),
      follow: (follower) => this.#dnsNames.follow(follower),
      findAlias: (name, zone, view, sampling) => this.#dnsNames.findAlias(name, zone, followed(view), sampling),
      hasNameUnder: (suffix, zone, view) => this.#dnsNames.hasNameUnder(suffix, zone, followed(view)),
      namesAt: (address) => this.#dnsNames.namesAt(address),
      view: (key) => {
        const record = this.#dnsNames.view(key);
        return record !== undefined && this.#isComplete(record.namespace) ? record : undefined;
      },
    };
    this.catalog = dnsCatalog(() => 0, {
      reads: this.#reads,
      replica,
      dnsNames,
      identity: NODE,
      policies: this,
      remoteLookup: this.#remoteLookup,
    });
  }

  #put(entries: readonly (readonly [namespace: string, name: string, aliases: readonly string[]])[]): void {
    const drafts = entries.map(([namespace, name, aliases]) =>
      draftAt(
        { kind: KIND.SERVICE, namespace, name, instanceId: "1" },
        { aliases: [...aliases], targets: [{ host: "192.0.2.1", port: 80 }] },
      ),
    );
    this.#registry.register("ann", drafts, at(0), { isStatic: true });
  }

  put(namespace: string, name: string, aliases: readonly string[]): void {
    this.#put([[namespace, name, aliases]]);
    this.#dnsNames.refresh();
  }

  end(namespace: string, name: string): void {
    this.#registry.registrar.unregisterKeys(
      caller("ann"),
      [keyText({ kind: KIND.SERVICE, namespace, name, instanceId: "1", clusterId: "c1" })],
      at(0),
    );
    this.#registry.flush(at(0));
    this.#dnsNames.refresh();
  }

  #fetchedAnswer(key: string): AnswerQuality | undefined {
    const arrivedMs = this.#fetched.get(key) ?? Number.NEGATIVE_INFINITY;
    const isKnown = arrivedMs + 15 * SECONDS > this.ms || (this.#fetched.has(key) && this.isCutOff);
    return isKnown ? { source: "fetched", isStale: false, ageMs: this.ms - arrivedMs, isNegative: !this.#found.has(key) } : undefined;
  }

  #has(namespace: string, name: string): boolean {
    const key = keyText({ kind: KIND.SERVICE, namespace, name, instanceId: "1", clusterId: "c1" });
    return this.#registry.replica.view(key) !== undefined;
  }

  letGo(namespace: string): void {
    this.followed = this.followed.filter((each) => each !== namespace);
    this.#letGoCount += 1;
    this.#inputCount += 1;
  }

  change(policy: Policy): void {
    this.policy = policy;
    this.#reads.show(policy);
    this.#reads.settle(policy);
  }

  #isComplete(namespace: string): boolean {
    return this.followed.includes(namespace) || this.followed.includes("");
  }

  #askAliasOwners(name: string, zone: string): AliasOwners | undefined {
    this.asked.push(`about ${name}`);
    if (this.isFailing) return undefined;
    const { policy } = this;
    const sees = (namespace: string) => policy.set === undefined || policy.viewer(namespace, { clusterId: "c1", tenant: "" }).allowed;
    const told: CachedAliasOwner[] = [];
    const records = new ListCursor(this.#registry.replica.lookup.all);
    for (let record = records.next(); record !== undefined; record = records.next())
      if (sees(record.namespace))
        told.push({ aliasOwner: { entry: this.#reads.entry(record), claim: claimOf(record, "") }, sizeBytes: 100 });
    return aliasOwnersFrom(name, zone, told, { isMore: false, maxBytes: this.aliasOwners.answerBytes });
  }

  /** Of what was told. */
  get version(): number {
    return this.#remoteLookup.version;
  }

  /** The code, seconds and type of each record, and behind an arrow what was asked of the upstream; of a question that waits for all of it. */
  async answer(name: string, type: "A" | "SRV" = "A"): Promise<string> {
    const [code, ...lines] = await this.#answered(questionBytes(type, `${name}.waymark`), undefined, new Set());
    const said = [code, ...lines.filter((line) => line.startsWith("answer"))].map((line) =>
      line?.replace(/^answer +\S+ (\d+) (\w+) .*/, "$2 $1"),
    );
    const asked = this.asked.splice(0);
    return `${said.join(" ").replace(" aa", "")}${asked.length === 0 ? "" : ` <- ${asked.join(", ")}`}`;
  }

  async #answered(question: Uint8Array, last: PendingNameError | undefined, waited: Set<string>): Promise<readonly string[]> {
    const sender = { address: "", monoMs: this.ms, room: "all", waited: last } as const;
    const reply = this.#responder.respond(question, "tcp", () => onlyView(this.catalog), sender);
    if (reply === undefined || reply.fault !== undefined) throw new Error("no answer", { cause: reply?.fault });
    const { bytes, unknown } = reply;
    if (unknown === undefined || waited.has(unknown.key)) return responseText(bytes).split("\n");
    await unknown.arrival;
    return this.#answered(question, unknown, waited.add(unknown.key));
  }

  /** As `answer`, of a question that waits for nothing. */
  answerNow(name: string): string {
    const { rcode, answers } = ask(this.#responder, this.catalog, "A", `${name}.waymark`);
    return [rcode, ...answers.map((line) => line.replace(/^\S+ (\d+) (\w+) .*/, "$2 $1"))].join(" ");
  }

  /** The code of each answer to one sender over UDP, of whose network so many questions a second may begin to wait. */
  answersInFlood(names: readonly string[], room: "all" | "proved" | "nobody", perSecond = 100): readonly string[] {
    const rates = new ResponseRates({ perSecond, maxNetworks: 100 });
    const responder = new DnsResponder({
      settings: TEST_DNS_SETTINGS,
      planBytes: SETTINGS.dns.planBytes,
      random: () => 0.5,
      serialOf: () => 1,
      rates,
    });
    return names.map((name) => {
      const sender = { address: "192.0.2.9", monoMs: this.ms, room };
      const reply = responder.respond(questionBytes("A", `${name}.waymark`), "udp", () => onlyView(this.catalog), sender);
      if (reply === undefined || reply.fault !== undefined) throw new Error("no answer", { cause: reply?.fault });
      const [code = ""] = responseText(reply.bytes).split("\n");
      return `${code.replace(" aa", "")}${reply.unknown === undefined ? "" : " waits"}`;
    });
  }

  /** The code and the names at the last number of an address, and the extended error; of a question that waits for nothing. */
  namesAt(last: number): string {
    const reply = this.#responder.respond(queryBytes({ type: "PTR", name: `${last}.2.0.192.in-addr.arpa`, bufsize: 1232 }), "tcp", () =>
      onlyView(this.catalog),
    );
    if (reply === undefined) throw new Error("no answer");
    const [code = "", ...lines] = responseText(reply.bytes).split("\n");
    const ede = Buffer.from(reply.bytes).toString("hex").endsWith(EDE_22) ? ["EDE 22"] : [];
    return [code.replace(" aa", ""), ...ede, ...lines.flatMap((line) => /^answer .* PTR (.*)/.exec(line)?.[1] ?? [])].join(" ");
  }

  /** What goes along with an answer, by its number. */
  extendedError(name: string, type = 1): number | undefined {
    const { plan, prepared } = this.#responder.plans.plan({ name: `${name}.waymark`, type, class: 1 }, this.catalog);
    return (prepared ?? plan)?.extendedError;
  }

  get plansMade(): number {
    return this.#responder.plans.madeCount;
  }

  /** Seconds for which clients may keep an answer that is known; undefined if it is not. */
  seconds(name: string): number | undefined {
    const { answers, authority } = ask(this.#responder, this.catalog, "A", `${name}.waymark`);
    const [line] = [...answers, ...authority];
    return line === undefined ? undefined : Number(line.split(" ")[1]);
  }
}

/** A fetch of each kind that has names in DNS, besides services. */
function otherKinds(name: string): string {
  const others = LOCATED_KINDS.filter((kind) => kind !== KIND.SERVICE);
  return others.map((kind) => `${name} ${kind}`).join(", ");
}

async function expectAnswers(world: World, questions: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, expected] of Object.entries(questions)) {
    const type = name.startsWith("_svc") ? "SRV" : "A";
    expect(`${name}: ${await world.answer(name, type)}`).toBe(`${name}: ${expected}`);
  }
}

test("what is followed needs nothing; what is not is fetched by name, and only where it is absent is anything else asked", async () => {
  await expectAnswers(new World(), {
    "web.svc.market": "NOERROR A 5",
    "_svc._tcp.web.svc.market": "NOERROR SRV 5",
    "far.svc.other": "NOERROR A 5 <- svc.other far 1",
    "_svc._tcp.far.svc.other": "NOERROR SRV 5",
    "shop.example": "NOERROR CNAME 5 A 5 <- example shop 1, about shop.example",
    "n7.node": `NXDOMAIN <- discovery.nodes n7 ${KIND.NODE}, about n7.node`,
    "10-0-0-1.addr.node": "NOERROR A 60",
  });
});

test("a name is absent only if no alias carries it and nothing lies below it, and both are asked once", async () => {
  const world = new World();
  await expectAnswers(world, {
    "none.svc.other": `NXDOMAIN <- svc.other none 1, about none.svc.other, ${otherKinds("svc.other none")}`,
    "none.svc.market": "NXDOMAIN <- about none.svc.market",
    "below.example": "NOERROR <- example below 1, about below.example",
    other: "NOERROR <- about other",
    market: "NOERROR <- about market",
    "a.b.c.market": `NXDOMAIN <- b.c.market a 1, about a.b.c.market, ${otherKinds("b.c.market a")}`,
  });
  await expectAnswers(world, { "none.svc.other": "NXDOMAIN", "below.example": "NOERROR", other: "NOERROR" });
});

test("a name above an alias below a port exists, for one question about it, and none where its namespace is hidden", async () => {
  const world = new World();
  world.put("svc.other", "late", ["_x._tcp.ghost.example", "m.n._udp.svc.secret"]);
  await expectAnswers(world, {
    "_tcp.ghost.example": "NOERROR <- about _tcp.ghost.example",
    "_sctp.ghost.example": `NXDOMAIN <- about _sctp.ghost.example, example ghost 1, ${otherKinds("example ghost")}`,
    "n._udp.svc.secret": "NOERROR <- about n._udp.svc.secret",
  });
  world.change(HIDING);
  await expectAnswers(world, { "n._udp.svc.secret": "NXDOMAIN", "_tcp.x.svc.secret": "NXDOMAIN" });
});

test("a question counts once as an ask for each namespace in which it looks, also when others are looked at while it waits", async () => {
  const world = new World();
  await Promise.all(["none.svc.other", "nil.svc.other", "none.svc.rare"].map((name) => world.answer(name)));
  expect(world.countedIn.toSorted()).toEqual(["svc.other", "svc.other", "svc.rare"]);
  // What is kept for a second is not looked up again. After that it is one question more.
  world.ms += 2 * SECONDS;
  await world.answer("none.svc.rare");
  expect(world.countedIn.slice(3)).toEqual(["svc.rare"]);
});

test("a resolver knows who is at an address only of what it follows, and denies no name before it follows everything", () => {
  const world = new World();
  expect([world.namesAt(1), world.namesAt(2)]).toEqual(["NOERROR web.svc.market.waymark.", "SERVFAIL EDE 22"]);
  world.letGo("svc.market");
  expect(world.namesAt(1)).toBe("SERVFAIL EDE 22");
  world.followed = [""];
  expect([world.namesAt(1), world.namesAt(2)]).toEqual([
    "NOERROR web.svc.market.waymark. far.svc.other.waymark. hidden.svc.secret.waymark.",
    "NXDOMAIN",
  ]);
  world.change(HIDING);
  expect(world.namesAt(1)).toBe("NOERROR web.svc.market.waymark. far.svc.other.waymark.");
  world.end("svc.market", "web");
  world.end("svc.other", "far");
  expect([world.namesAt(1), world.namesAt(2), world.asked]).toEqual(["NXDOMAIN", "NXDOMAIN", []]);
});

test("where everything is followed nothing is asked", async () => {
  const world = new World();
  world.followed = [""];
  await expectAnswers(world, {
    "none.svc.other": "NXDOMAIN",
    "shop.example": "NOERROR CNAME 5 A 5",
    "below.example": "NOERROR",
    other: "NOERROR",
  });
});

test("a hidden namespace is absent and causes no fetch, and a hidden carrier is none", async () => {
  const world = new World();
  world.change(HIDING);
  await expectAnswers(world, {
    "hidden.svc.secret": "NXDOMAIN",
    "none.svc.secret": "NXDOMAIN",
    "_svc._tcp.hidden.svc.secret": "NXDOMAIN",
    "own.example": `NXDOMAIN <- example own 1, about own.example, ${otherKinds("example own")}`,
  });
});

/** Only what a rule shows is seen: `svc.market`, what begins with `svc.deep`, and nothing of `svc.secret`. */
const DENYING = new Policy(
  set([rule("svc.market"), rule("svc.deep.*"), rule("svc.secret", { visibilityTenants: ["red"] })], { defaultAllow: false }),
  1,
);

test("with default deny, a hidden name is absent as on a node, and is asked for in the same way whether it exists or not", async () => {
  const world = new World();
  world.change(DENYING);
  const sizeOf = async (name: string) => {
    const before = world.aliasOwners.sizeBytes;
    await expectAnswers(world, { [name]: `NXDOMAIN <- about ${name}` });
    return world.aliasOwners.sizeBytes - before;
  };
  expect(await sizeOf("far.svc.other")).toBe(await sizeOf("x01.svc.other"));
  expect(await sizeOf("hidden.svc.secret")).toBe(await sizeOf("x00002.svc.secret"));
  // A second query is answered from the first upstream answer.
  await expectAnswers(world, { "far.svc.other": "NXDOMAIN", "x01.svc.other": "NXDOMAIN", "web.svc.market": "NOERROR A 5" });
  await expectAnswers(world, {
    "x2.y.z.svc.other": "NXDOMAIN <- about x2.y.z.svc.other",
    "shop.example": "NXDOMAIN <- about shop.example",
    "below.example": "NXDOMAIN <- about below.example",
  });
  world.isCutOff = true;
  await expectAnswers(world, { "hidden.svc.other": "SERVFAIL", "none.svc.other": "SERVFAIL" });
  const knowing = new World();
  knowing.followed = [""];
  knowing.change(DENYING);
  await expectAnswers(knowing, { "far.svc.other": "NXDOMAIN", "x1.svc.other": "NXDOMAIN" });
});

test("where the policy denies by default, what it shows is asked for, and so is what lies in no namespace", async () => {
  const world = new World();
  world.put("svc.deep.down.eu", "web", []);
  world.put("svc.other.up.eu", "web", []);
  world.change(DENYING);
  await expectAnswers(world, {
    "none.svc.market": "NXDOMAIN <- about none.svc.market",
    // An alias of that name would lie in the namespace `market`, which is hidden, so nobody is asked who has it.
    "svc.market": "NOERROR",
    // Above `svc.deep.down.eu`, which the policy shows, and above nothing that it shows.
    "down.eu": "NOERROR <- about down.eu",
    "up.eu": "NXDOMAIN <- about up.eu",
    "svc.deep.eu": "NXDOMAIN <- about svc.deep.eu",
    "x.svc.deep.eu": `NXDOMAIN <- svc.deep.eu x 1, about x.svc.deep.eu, ${otherKinds("svc.deep.eu x")}`,
    other: "NXDOMAIN <- about other",
    "n7.node": `NXDOMAIN <- discovery.nodes n7 ${KIND.NODE}, about n7.node`,
    "discovery.nodes": "NXDOMAIN <- about discovery.nodes",
    "x.discovery.nodes": `NXDOMAIN <- discovery.nodes x 1, about x.discovery.nodes, ${otherKinds("discovery.nodes x")}`,
  });
});

test("a change of policy holds at once for what was kept, and what it may have hidden before is asked for again", async () => {
  const world = new World();
  await expectAnswers(world, { secret: "NOERROR <- about secret" });
  world.change(HIDING);
  await expectAnswers(world, { secret: "NXDOMAIN <- about secret" });
  world.isCutOff = true;
  world.change(NO_POLICY);
  await expectAnswers(world, { secret: "SERVFAIL" });
});

test("no answer of one policy is told under the next, also where a server answers again in the same moment", async () => {
  const world = new World();
  world.followed = [...world.followed, "svc.secret"];
  world.isCutOff = true;
  await expectAnswers(world, { "hidden.svc.secret": "NOERROR A 3" });
  world.isCutOff = false;
  // In force, and the records do not follow it yet.
  world.policy = HIDING;
  await expectAnswers(world, { "hidden.svc.secret": "NXDOMAIN" });
});

test("who carries an alias is asked again at once after any namespace was let go: some of its entries may carry it too", async () => {
  const world = new World();
  world.followed = [...world.followed, "svc.third"];
  await world.answer("shop.example");
  await expectAnswers(world, { "shop.example": "NOERROR CNAME 5 A 5" });
  world.letGo("svc.third");
  await expectAnswers(world, { "shop.example": "NOERROR CNAME 5 A 5 <- about shop.example" });
});

test("what is followed is known without being asked, and what was asked before a namespace was let go is asked again", async () => {
  const world = new World();
  await expectAnswers(world, {
    "below.example": "NOERROR <- example below 1, about below.example",
    "new.example": `NXDOMAIN <- example new 1, about new.example, ${otherKinds("example new")}`,
  });
  world.followed = [...world.followed, "svc.other"];
  world.put("svc.other", "late", ["new.example"]);
  world.end("svc.other", "far");
  await expectAnswers(world, {
    "below.example": `NXDOMAIN <- ${otherKinds("example below")}`,
    "new.example": "NOERROR CNAME 5 A 5",
  });
  world.letGo("svc.other");
  await expectAnswers(world, { "new.example": "NOERROR CNAME 5 A 5 <- about new.example, svc.other late 1" });
});

test("an answer that was fetched is made anew once when its second is over, and not at each question after that", async () => {
  const world = new World();
  await world.answer("far.svc.other");
  await world.answer("far.svc.other");
  const made = world.plansMade;
  const madeAt = (ms: number) => {
    world.ms = ms;
    world.answerNow("far.svc.other");
    return world.plansMade - made;
  };
  expect([999, 1000, 1001, 1500].map(madeAt)).toEqual([0, 1, 1, 1]);
});

test("a question is a hit if it waited for nothing, and a miss if it waited or found no answer", () => {
  const world = new World();
  const counted = (outcome: "absent" | "found" | "unknown", hasWaited = false) => {
    const { counts } = world;
    const before = [counts.hitCount, counts.missCount, counts.staleCount, counts.negativeCount];
    world.catalog.answered?.({ outcome, hasWaited });
    return [counts.hitCount, counts.missCount, counts.staleCount, counts.negativeCount].map((count, i) => count - (before[i] ?? 0));
  };
  expect([counted("found"), counted("absent"), counted("unknown"), counted("found", true)]).toEqual([
    [1, 0, 0, 0],
    [1, 0, 0, 1],
    [0, 1, 0, 0],
    [0, 1, 0, 0],
  ]);
  world.isCutOff = true;
  world.followed = [""];
  expect(counted("absent")).toEqual([1, 0, 1, 0]);
});

test("cut off, what is known is answered and nothing else is called absent", async () => {
  const world = new World();
  for (const name of ["far.svc.other", "shop.example", "none.svc.other", "below.example"]) await world.answer(name);
  world.isCutOff = true;
  world.ms = 20 * SECONDS;
  await expectAnswers(world, {
    "far.svc.other": "NOERROR A 3",
    "shop.example": "NOERROR CNAME 3 A 3",
    "none.svc.other": "NXDOMAIN",
    "below.example": "NOERROR",
    "web.svc.market": "NOERROR A 3",
    "new.svc.other": "SERVFAIL",
    "none.svc.market": "SERVFAIL",
    other: "SERVFAIL",
  });
  world.ms = 70 * SECONDS;
  await expectAnswers(world, { "below.example": "SERVFAIL" });
});

test("a kept answer becomes stale when no upstream answers, with its TTL and EDE 3, and is not once one does", async () => {
  const world = new World();
  await world.answer("far.svc.other");
  const told = () => ["web.svc.market", "far.svc.other"].map((name) => [world.seconds(name), world.extendedError(name)]);
  const fresh = [
    [5, undefined],
    [5, undefined],
  ];
  expect(told()).toEqual(fresh);
  world.isCutOff = true;
  expect(told()).toEqual([
    [3, 3],
    [3, 3],
  ]);
  // It is planned once, as what is fresh.
  world.ms = 20 * SECONDS;
  told();
  const made = world.plansMade;
  world.ms += 500;
  expect([told()[1], world.plansMade]).toEqual([[3, 3], made]);
  world.ms = 0;
  world.isCutOff = false;
  expect(told()).toEqual(fresh);
});

test("a list of services becomes stale as other answers do", () => {
  const world = new World();
  world.followed = [""];
  world.put("alone", "web", []);
  // One label names no service, so nothing but the list is read.
  const told = () => world.extendedError("_services._dns-sd._udp.alone", 12);
  expect(told()).toBeUndefined();
  world.isCutOff = true;
  expect(told()).toBe(3);
  world.isCutOff = false;
  expect(told()).toBeUndefined();
});

test("what is followed is planned once, whatever else the upstream tells", async () => {
  const world = new World();
  await world.answer("web.svc.market");
  const made = world.plansMade;
  for (let i = 0; i < 20; i++) {
    await world.answer(`far${i}.svc.other`);
    const before = world.plansMade;
    expect(await world.answer("web.svc.market")).toBe("NOERROR A 5");
    expect(world.plansMade).toBe(before);
  }
  expect(world.plansMade).toBeGreaterThan(made);
  world.letGo("svc.market");
  expect(await world.answer("web.svc.market")).toBe("NOERROR A 5 <- svc.market web 1");
});

test("an alias is told no longer than the name that it leads to, also where that was planned before", async () => {
  const world = new World();
  await world.answer("far.svc.other");
  world.ms = 14.2 * SECONDS;
  await world.answer("far.svc.other");
  world.ms = 14.5 * SECONDS;
  await world.answer("shop.example");
  world.ms = 15.1 * SECONDS;
  expect(await world.answer("shop.example")).toMatch(/<- .*svc\.other far 1/);
});

test("an alias is planned anew once the name that it leads to is not followed any more, also where that was planned before", async () => {
  const world = new World();
  world.followed = [...world.followed, "svc.other"];
  for (const name of ["far.svc.other", "shop.example"]) await world.answer(name);
  world.followed = world.followed.filter((each) => each !== "svc.other");
  expect(await world.answer("shop.example")).toMatch(/<- .*svc\.other far 1/);
});

test("what was asked is planned anew when that arrives again, and not for other names that arrive", async () => {
  const world = new World();
  for (const name of ["far.svc.other", "shop.example"]) await world.answer(name);
  const both = async () => [await world.answer("far.svc.other"), await world.answer("shop.example")];
  const first = await both();
  const made = world.plansMade;
  for (let i = 0; i < 20; i++) {
    await world.answer(`far${i}.svc.other`);
    world.answerNow(`far${i}.svc.other`);
    const before = world.plansMade;
    expect(await both()).toEqual(first);
    expect(world.plansMade).toBe(before);
  }
  expect(world.plansMade).toBeGreaterThan(made);
  world.ms = 16 * SECONDS;
  expect(await both()).not.toEqual(first);
  const before = world.plansMade;
  await both();
  expect(world.plansMade).toBe(before);
});

test("while the upstream stands still who carried an alias is told, when its answer is late, and nothing is called absent", async () => {
  const world = new World();
  for (const name of ["shop.example", "none.svc.other"]) await world.answer(name);
  world.isSilent = true;
  world.ms = 14 * SECONDS;
  expect(world.answerNow("shop.example")).toBe("NOERROR CNAME 1 A 1");
  world.ms = 20 * SECONDS;
  const answers = async () => {
    // Names are fetched as ever: one for the alias, and one for what it leads to.
    const turns: string[][] = [];
    for (let turn = 0; turn < 4; turn++) {
      turns.push(["shop.example", "none.svc.other"].map((name) => world.answerNow(name)));
      await Promise.resolve();
    }
    return turns.at(-1);
  };
  expect(await answers()).toEqual(["SERVFAIL", "SERVFAIL"]);
  world.ms += 400;
  expect(await answers()).toEqual(["NOERROR CNAME 3 A 3", "SERVFAIL"]);
  expect(world.asked.filter((each) => each.startsWith("about"))).toEqual(["about shop.example", "about none.svc.other"]);
});

test("what cannot be fetched is not asked for again for a second, and an absence is not said beyond its time meanwhile", async () => {
  const world = new World();
  await expectAnswers(world, { "none.svc.market": "NXDOMAIN <- about none.svc.market" });
  world.isFailing = true;
  world.ms = 11 * SECONDS;
  await expectAnswers(world, { "none.svc.market": "SERVFAIL <- about none.svc.market", "far.svc.other": "SERVFAIL <- svc.other far 1" });
  await expectAnswers(world, { "none.svc.market": "SERVFAIL", "far.svc.other": "SERVFAIL" });
  world.isFailing = false;
  world.ms += SECONDS;
  await expectAnswers(world, { "none.svc.market": "NXDOMAIN <- about none.svc.market", "far.svc.other": "NOERROR A 5 <- svc.other far 1" });
});

test("what could not be fetched anew is answered from what is old once nobody can be asked", async () => {
  const world = new World();
  await world.answer("far.svc.other");
  world.ms = 20 * SECONDS;
  world.isFailing = true;
  expect(await world.answer("far.svc.other")).toMatch(/^SERVFAIL <- svc\.other far 1/);
  world.isCutOff = true;
  expect(await world.answer("far.svc.other")).toBe("NOERROR A 3");
});

test("cut off, an alias of what is followed is answered, also where nobody knows any more who else carries it", async () => {
  const opened = async () => {
    const world = new World();
    world.put("svc.market", "mark", ["mark.example"]);
    await expectAnswers(world, { "mark.example": "NOERROR CNAME 5 A 5 <- example mark 1, about mark.example" });
    world.isCutOff = true;
    return world;
  };
  const late = await opened();
  late.ms = 80 * SECONDS;
  await expectAnswers(late, { "mark.example": "NOERROR CNAME 3 A 3" });
  const changed = await opened();
  changed.change(HIDING);
  await expectAnswers(changed, { "mark.example": "NOERROR CNAME 3 A 3" });
});

test("a TTL is at most what is left, also from a plan that is kept, and a kept plan does not outlive its answer", async () => {
  const world = new World();
  for (const name of ["far.svc.other", "none.svc.market"]) await world.answer(name);
  const seconds: (number | undefined)[] = [];
  for (world.ms = 8500; world.ms < 15 * SECONDS; world.ms += SECONDS) seconds.push(world.seconds("far.svc.other"));
  expect(seconds).toEqual([5, 5, 4, 3, 2, 1, 0]);
  world.ms = 9500;
  expect(world.seconds("none.svc.market")).toBe(0);
  world.ms = 10_000;
  expect(world.seconds("none.svc.market")).toBeUndefined();
});

test("that nothing lies below a name is not said any more once something was fetched from there", async () => {
  const world = new World();
  expect(await world.answer("svc.new")).toMatch(/^NXDOMAIN <- .*about svc\.new/);
  world.put("svc.new", "db", []);
  world.ms += SECONDS;
  expect(await world.answer("db.svc.new")).toMatch(/^NOERROR A/);
  world.isCutOff = true;
  expect(await world.answer("svc.new")).toBe("SERVFAIL");
  world.isCutOff = false;
  expect(await world.answer("svc.new")).toBe("NOERROR <- about svc.new");
  // That a name is not there says nothing of what lies beside it.
  expect(await world.answer("svc.none")).toMatch(/^NXDOMAIN <- .*about svc\.none/);
  world.ms += SECONDS;
  expect(await world.answer("db.svc.none")).toMatch(/^NXDOMAIN <- svc\.none db 1/);
  expect(await world.answer("svc.none")).toBe("NXDOMAIN");
});

test("an answer that was fetched before says nothing against what was heard since, however often it is asked for", async () => {
  const world = new World();
  world.put("svc.new", "db", []);
  expect(await world.answer("db.svc.new")).toMatch(/^NOERROR A/);
  world.end("svc.new", "db");
  world.ms += SECONDS;
  expect(await world.answer("svc.new")).toMatch(/^NXDOMAIN <- .*about svc\.new/);
  world.ms += SECONDS;
  await world.answer("db.svc.new");
  expect(await world.answer("svc.new")).toBe("NXDOMAIN");
  // That something lies there stays true.
  expect(await world.answer("svc.other")).toMatch(/^NOERROR <- .*about svc\.other/);
  world.ms += SECONDS;
  expect(await world.answer("far.svc.other")).toMatch(/^NOERROR A/);
  expect(await world.answer("svc.other")).toBe("NOERROR");
});

test("of a thousand names the upstream is asked at a time, and of more nothing is known; what failed is remembered of a thousand", async () => {
  const world = new World();
  world.isSilent = true;
  for (let i = 0; i < 1200; i++) expect(world.answerNow(`x${i}`)).toBe("SERVFAIL");
  expect([world.asked.length, world.asked.at(-1)]).toEqual([1000, "about x999"]);
  const other = new World();
  other.isFailing = true;
  for (let i = 0; i <= 1000; i++) await other.answer(`x${i}`);
  // The oldest is asked for again, and takes the place of the next one.
  await expectAnswers(other, { x1000: "SERVFAIL", x1: "SERVFAIL", x0: "SERVFAIL <- about x0" });
});

test("that something was fetched from below a name is remembered of ten thousand names, the newest of them", async () => {
  const asked: string[] = [];
  let ms = 0;
  const remoteLookup = new FetchingRemoteLookup({
    machine: {
      isComplete: () => false,
      fetchedLeftMs: () => SECONDS,
      fetchedMark: () => 1,
      fetchedAnswer: () => ({ source: "fetched", isStale: false, ageMs: 0, isNegative: false }),
      upstreams: { isCutOff: false, cutOffMonoMs: undefined },
      counts: new AnswerCounts(),
    },
    isHeld: () => false,
    ask: () => ({ source: "fetched", isStale: false, ageMs: 0, isNegative: false }),
    aliasOwners: new AliasOwnerCache({ ttlMs: SECONDS, negativeMs: SECONDS, maxStaleMs: SECONDS, maxBytes: 10_000 }),
    askAliasOwners: (name, zone, told) => {
      asked.push(name);
      queueMicrotask(() => told(aliasOwnersFrom(name, zone, [], { isMore: false, maxBytes: 0 })));
    },
    inputCount: () => 0,
    judgedRevision: () => 0,
    now: () => at(ms),
  });
  const hasBelow = async (name: string) => {
    try {
      return remoteLookup.hasNameUnder(name, "waymark", { sees: () => true, counts: () => true });
    } catch (error) {
      await (error as PendingNameError).arrival;
      return "asked";
    }
  };
  for (const name of ["old", "new"]) expect([await hasBelow(name), await hasBelow(name)]).toEqual(["asked", false]);
  ms = 1;
  const fetch = (namespace: string) => remoteLookup.require({ kind: KIND.SERVICE, namespace, name: "db" });
  fetch("old");
  for (let i = 0; i < 10_000; i++) fetch(`n${i}`);
  fetch("new");
  expect([await hasBelow("old"), await hasBelow("new"), asked]).toEqual([false, "asked", ["old", "new", "new"]]);
});

test("what may not wait causes no fetch, and over UDP is told to ask over TCP; what is known is answered all the same", async () => {
  const world = new World();
  await world.answer("far.svc.other");
  const unknown = ["none.svc.other", "shop.example", "none.svc.market"];
  expect(world.answersInFlood(unknown, "nobody")).toEqual(["NOERROR tc", "NOERROR tc", "NOERROR tc"]);
  expect(world.answersInFlood(unknown, "proved")).toEqual(["NOERROR tc", "NOERROR tc", "NOERROR tc"]);
  expect(world.asked).toEqual([]);
  expect(world.answersInFlood(["web.svc.market", "far.svc.other"], "nobody")).toEqual(["NOERROR", "NOERROR"]);
  // One question a second may begin to wait, and only that one is asked for.
  expect(world.answersInFlood(unknown, "all", 1)).toEqual(["SERVFAIL waits", "NOERROR tc", "NOERROR tc"]);
  expect(world.asked).toEqual(["svc.other none 1"]);
});
