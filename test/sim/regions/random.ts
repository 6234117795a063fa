/**
 * Regions in which anything happens: entries come and go while nodes crash, freeze and lose disks, clusters and regions are cut apart, clocks differ,
 * export and import rules of borders change, and neighbours forge, replay, flood, withhold and lie. Then all is healed, and each region shows exactly what the others export to
 * it and it imports (P18), and no node says a service more often than once a hold-down (P14).
 */
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { KIND, keyParts, keyText } from "../../../src/catalog/record/record.ts";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";
import { Rng } from "../../../src/lib/rng.ts";
import type { Sealed } from "../../../src/summary/summary.ts";
import { rule } from "../../fakes/policies.ts";
import { type SimNode, WALL_START_MS } from "../sim-node.ts";
import { BorderRules } from "./border-rules.ts";
import { forgeries } from "./forged.ts";
import { type Layout, Regions, SUMMARY } from "./world.ts";

export interface RandomOutcome {
  readonly wrong: readonly string[];
  /** What happened, by its name. */
  readonly happened: ReadonlyMap<string, number>;
}

const START_MS = 8000;
const ACTIVE_MS = 70_000;
const REST_MS = 150_000;
/** What an origin said of which the disk is lost is taken over by other nodes after five minutes, and then ended by its cluster. */
const REST_AFTER_LOSS_MS = 450_000;
const NAMESPACES = ["svc", "inner"] as const;
/** So many services that each node of a cluster exports some. */
const MANY = 24;
/** Seals that are kept to be shown again. */
const MAX_KEPT = 400;

class Anything {
  readonly #rng: Rng;
  readonly #regions: Regions;
  readonly #layout: Layout;
  readonly #happened = new Map<string, number>();
  readonly #rules: BorderRules;
  #policyCount = 0;
  readonly #kept: Sealed[] = [];
  readonly #keptBeacons: Sealed[] = [];
  /** Nodes whose batches do not arrive. */
  readonly #withholding = new Set<number>();
  readonly #endMs = START_MS + ACTIVE_MS;
  readonly #kinds: readonly Fault[];
  /** In every other world operators change rules of borders. */
  readonly #isRuled: boolean;
  /** Within the skew that is allowed. */
  readonly #maxSkewMs: number;

  constructor(seed: number, trace?: string) {
    this.#rng = new Rng(`anything ${seed}`);
    const rng = this.#rng;
    const ofRules = rng.fork("rules");
    this.#isRuled = ofRules.int(2) === 0;
    // Where regions stand in a row more words are relayed, and go in circles.
    const isRow = this.#isRuled && ofRules.int(2) === 0;
    const drawn = this.#drawLayout();
    this.#layout = isRow ? { ...drawn, sa: { sa1: 1 + ofRules.int(2) } } : drawn;
    // Each world has only a few kinds of faults, because many would hide each other.
    this.#kinds = Array.from({ length: 1 + rng.int(4) }, () => FAULTS[rng.int(FAULTS.length)] ?? "crash");
    // A withdrawal must outlive what an origin of an earlier start says, which is taken over after five minutes.
    const isShort = rng.int(2) === 0 && !this.#isLossy;
    const shape = isRow ? (ofRules.int(2) === 0 ? "ring" : "chain") : rng.int(3) === 0 ? "hub" : "mesh";
    this.#maxSkewMs = isShort ? 2000 : 300_000;
    const areNeighbours = SHAPES[shape](Object.keys(this.#layout));
    this.#rules = new BorderRules(this.#layout, areNeighbours, rng);
    const rules = (from: string, to: string) => this.#rules.of(from, to);
    const members = Object.values(this.#layout).flatMap((clusters) => Object.entries(clusters));
    const without = members.flatMap(([cluster, count]) => (count > 1 && rng.int(5) === 0 ? [`${cluster}-b`] : []));
    const summary = isShort ? { maxClockSkewMs: 5000 } : {};
    this.#regions = new Regions(`${seed}`, this.#layout, { areNeighbours, rules, without, summary, apartMs: 5 + rng.int(100) }, trace);
    this.#listen();
  }

  /** A node may start without what it said: its disk is lost, or its clock says that the file of summaries is too old to count. */
  get #isLossy(): boolean {
    return this.#kinds.some((kind) => kind === "crash" || kind === "lost cluster" || (kind === "clock" && this.#isRuled));
  }

  get #clusters(): readonly string[] {
    return Object.values(this.#layout).flatMap((clusters) => Object.keys(clusters));
  }

  #drawLayout(): Layout {
    const places = ["eu", "us", "ap"].slice(0, 2 + this.#rng.int(2));
    return Object.fromEntries(
      places.map((place) => {
        const clusters = Array.from({ length: 1 + this.#rng.int(2) }, (_, i) => [`${place}${i + 1}`, 1 + this.#rng.int(3)] as const);
        return [place, Object.fromEntries(clusters)];
      }),
    );
  }

  /** Keeps some of what crosses, and loses what a neighbour withholds. */
  #listen(): void {
    const { network } = this.#regions;
    const counted = network.onFrame;
    network.onFrame = (from, to, frame, sizeBytes) => {
      counted(from, to, frame, sizeBytes);
      if (frame.kind !== "borderBatch") return true;
      if (this.#rng.int(2) === 0) this.#kept.push(...frame.summaries);
      this.#keptBeacons.push(...frame.beacons);
      for (const kept of [this.#kept, this.#keptBeacons]) if (kept.length > MAX_KEPT) kept.splice(0, kept.length - MAX_KEPT);
      return !this.#withholding.has(from);
    };
  }

  run(): RandomOutcome {
    const regions = this.#regions;
    const rng = this.#rng;
    const nodes = [...regions.nodes.values()];
    for (const node of nodes) if (rng.int(4) === 0) node.skewMs = rng.int(2 * this.#maxSkewMs) - this.#maxSkewMs;
    regions.start();
    for (let atMs = START_MS; atMs < this.#endMs; atMs += 50 + rng.int(600)) regions.at(atMs, () => this.#work());
    const kinds = this.#kinds;
    const meanMs = 3000 + rng.int(9000);
    for (let atMs = START_MS + 4000; atMs < this.#endMs - 1000; atMs += Math.ceil(2 * meanMs * rng.next())) {
      const kind = kinds[rng.int(kinds.length)] ?? "crash";
      regions.at(atMs, () => this.#inflict(kind));
    }
    if (this.#isRuled) this.#changeRules();
    regions.at(this.#endMs, () => {
      regions.network.healAll();
      this.#withholding.clear();
      for (const node of nodes) {
        node.thaw();
        node.start();
      }
    });
    const isLossy = this.#isLossy;
    // Others see that a node has begun a new origin when it says something (docs/design/summaries.md, Origins), so each is to be an exporter.
    if (isLossy) regions.at(this.#endMs + 30_000, () => this.#letAllSay());
    const restMs = this.#endMs + (isLossy ? REST_AFTER_LOSS_MS : REST_MS);
    let comparedBytes = 0;
    regions.at(restMs - 45_000, () => {
      comparedBytes = regions.comparedBytes;
    });
    regions.look(restMs - 1000, () => [...this.#shownWrongly(), ...regions.comparedSince(comparedBytes), ...this.#saidTooOften()]);
    return { wrong: regions.run(restMs), happened: this.#happened };
  }

  // ---- what happens ----

  #one<Item>(list: readonly Item[]): Item {
    return list[this.#rng.int(list.length)] as Item;
  }

  /** Operators change rules of borders, and start the nodes anew that have them. */
  #changeRules(): void {
    const rng = this.#rng.fork("changes");
    const meanMs = 4000 + rng.int(12_000);
    for (let atMs = START_MS + 4000; atMs < this.#endMs; atMs += 1000 + Math.ceil(2 * meanMs * rng.next()))
      this.#regions.at(atMs, () => {
        const { place, to, rules } = this.#rules.change(rng);
        this.#happened.set("rule", (this.#happened.get("rule") ?? 0) + 1);
        for (const cluster of Object.keys(this.#layout[place] ?? {})) this.#regions.changeRules(cluster, to, rules);
      });
  }

  #work(): void {
    const rng = this.#rng;
    const up = [...this.#regions.nodes.values()].filter(({ process, isFrozen }) => process?.takesWrites() === true && !isFrozen);
    if (up.length === 0) return;
    const { name } = this.#one(up);
    const namespace = this.#one(NAMESPACES);
    const [service, instance] = [`s${rng.int(4)}`, `${rng.int(3)}`];
    if (rng.int(3) > 0) this.#regions.put(name, service, instance, { namespace, health: rng.int(3) === 0 ? 3 : 1 });
    else if (this.#holds(name, namespace, service, instance)) this.#regions.end(name, service, instance, namespace);
  }

  #letAllSay(): void {
    for (const cluster of this.#clusters)
      for (let n = 0; n < MANY; n++) this.#regions.put(this.#regions.nodesOf(cluster)[0]?.name ?? "", `said${n}`);
  }

  #holds(nodeId: string, namespace: string, name: string, instance: string): boolean {
    const { process, options } = this.#regions.node(nodeId);
    const key = { kind: KIND.SERVICE, namespace, name, instanceId: `${nodeId}-${instance}`, clusterId: options.clusterId };
    return process?.replica.view(keyText(key)) !== undefined;
  }

  #inflict(kind: Fault): void {
    this.#happened.set(kind, (this.#happened.get(kind) ?? 0) + 1);
    const { network } = this.#regions;
    const rng = this.#rng;
    const nodes = [...this.#regions.nodes.values()];
    const node = this.#one(nodes);
    const forMs = 500 + rng.int(rng.int(2) === 0 ? 8000 : 50_000);
    switch (kind) {
      case "crash":
        this.#crash([node], rng.int(3) === 0);
        return;
      case "lost cluster":
        this.#crash(this.#regions.nodesOf(this.#one(this.#clusters)), true);
        return;
      case "freeze":
        node.freeze();
        this.#later(forMs, () => node.thaw());
        return;
      case "region apart":
      case "split": {
        const place = kind === "split" ? node.options.clusterId : node.options.region;
        const inside = this.#regions.nodesOf(place);
        const side = kind === "split" ? inside.filter(() => rng.int(2) === 0) : inside;
        // Of a split cluster both sides keep their links with other regions.
        const others = kind === "split" ? inside.filter((each) => !side.includes(each)) : nodes.filter((each) => !inside.includes(each));
        this.#regions.cut(side, others);
        this.#later(forMs, () => this.#regions.cut(side, others, false));
        return;
      }
      case "broken link":
        network.breakLinks(node.index, this.#one(nodes).index);
        return;
      case "clock":
        node.skewMs = rng.int(2 * this.#maxSkewMs) - this.#maxSkewMs;
        return;
      case "withhold":
        this.#withholding.add(node.index);
        this.#later(forMs, () => this.#withholding.delete(node.index));
        return;
      case "policy": {
        // Of one namespace no summaries, or of none.
        const rules = rng.int(2) === 0 ? [rule(this.#one(NAMESPACES), { allowSummaries: false })] : [];
        this.#policyCount += 1;
        this.#regions.apply(node.name, rules, `p${this.#policyCount}`);
        return;
      }
      case "forge":
      case "replay":
      case "re-encode":
      case "flood":
      case "lie":
        for (const frame of this.#lies(kind)) this.#inject(node, frame);
    }
  }

  #later(forMs: number, run: () => void): void {
    const atMs = this.#regions.world.nowMs + forMs;
    if (atMs < this.#endMs) this.#regions.at(atMs, run);
  }

  #crash(nodes: readonly SimNode[], isDiskLost: boolean): void {
    const how = { isSilent: this.#rng.int(3) === 0, isBatchKept: true, isDiskLost };
    for (const node of nodes) {
      node.crash(how);
      this.#later(200 + this.#rng.int(20_000), () => node.start());
    }
  }

  #lies(kind: "forge" | "replay" | "re-encode" | "flood" | "lie"): readonly LinkFrame[] {
    const rng = this.#rng;
    const batch = (summaries: readonly Sealed[], beacons: readonly Sealed[]) =>
      ({ kind: "borderBatch", summaries, beacons, keys: [], beaconAgesMs: beacons.map(() => 0) }) as const;
    const some = (kept: readonly Sealed[]) => kept.filter(() => rng.int(4) === 0);
    switch (kind) {
      case "forge":
        return [batch(forgeries(WALL_START_MS + this.#regions.world.nowMs), [])];
      case "replay":
        return [batch(some(this.#kept), some(this.#keptBeacons))];
      case "re-encode":
        return [batch(some(this.#kept).map(encodedAgain), some(this.#keptBeacons).map(encodedAgain))];
      case "flood":
        return Array.from({ length: 20 }, () => batch([...this.#kept], [...this.#keptBeacons]));
      case "lie": {
        const digest = BigInt(rng.int(1 << 30));
        const buckets = Array.from({ length: 256 }, (_, i) => digest * BigInt(i));
        return [
          { kind: "borderDigest", digest, count: rng.int(100), isAnswer: false, buckets: [] },
          { kind: "borderDigest", digest, count: rng.int(2), isAnswer: true, buckets },
          { kind: "borderHave", isAnswer: false, buckets: buckets.map((_, i) => i), hashes: [], versions: [] },
          { kind: "borderHave", isAnswer: true, buckets: buckets.map((_, i) => i), hashes: [digest], versions: [2 ** 50] },
        ];
      }
    }
  }

  /** A neighbour of the node says this. */
  #inject(node: SimNode, frame: LinkFrame): void {
    const links = node.process?.fabric.borders.rows.filter(({ state }) => state === "up") ?? [];
    const link = links.length === 0 ? undefined : this.#one(links).link;
    if (link !== undefined) node.received(link, frame, () => {}, false);
  }

  // ---- what is seen ----

  /** The services that a cluster exports, by the catalog of one of its nodes. */
  #exportedBy(cluster: string): readonly string[] {
    const [node] = this.#regions.nodesOf(cluster);
    const policy = node?.process?.policies.policy;
    const services = new Set<string>();
    const cursor = node?.process?.replica.lookup.cursor();
    for (let record = cursor?.next(); record !== undefined; record = cursor?.next()) {
      const { clusterId, kind, namespace, name } = keyParts(record.key);
      if (
        clusterId === cluster &&
        kind === KIND.SERVICE &&
        record.scope === SCOPE.GLOBAL &&
        policy?.ruleOf(namespace)?.allowSummaries !== false
      )
        services.add(`${namespace}/${name}`);
    }
    return [...services];
  }

  #shownWrongly(): readonly string[] {
    return Object.entries(this.#layout).flatMap(([place, own]) => {
      const expected = this.#clusters.flatMap((cluster) => {
        const services = this.#exportedBy(cluster);
        const isShown = (name: string) => cluster in own || this.#rules.lets(cluster, name.slice(0, name.indexOf("/")), place);
        return services.filter(isShown).map((name) => `${cluster} ${name}`);
      });
      return this.#regions.differs(this.#regions.nodesOf(place), expected);
    });
  }

  /** P14, of each start of a node: two nodes that see different parts of their cluster may both say something. */
  #saidTooOften(): readonly string[] {
    const lastMs = new Map<string, number>();
    return this.#regions.exports.flatMap(({ name, node, life, atMs, isWithdrawn }) => {
      const id = `${node} ${life} ${name}`;
      const apartMs = atMs - (lastMs.get(id) ?? Number.NEGATIVE_INFINITY);
      lastMs.set(id, atMs);
      // What a policy takes back goes at once.
      return isWithdrawn || apartMs >= SUMMARY.holdDownMs - 1 ? [] : [`${id} is said again after ${apartMs.toFixed(0)} ms`];
    });
  }
}

const FAULTS = [
  "crash",
  "lost cluster",
  "freeze",
  "region apart",
  "split",
  "broken link",
  "clock",
  "withhold",
  "forge",
  "replay",
  "re-encode",
  "flood",
  "lie",
  "policy",
] as const;
type Fault = (typeof FAULTS)[number];

/** Which of the regions have borders with each other. */
const SHAPES = {
  mesh: () => () => true,
  hub:
    ([hub]) =>
    (one, other) =>
      one === hub || other === hub,
  chain: (places) => (one, other) => Math.abs(places.indexOf(one) - places.indexOf(other)) === 1,
  ring: (places) => (one, other) => [1, places.length - 1].includes(Math.abs(places.indexOf(one) - places.indexOf(other))),
} as const satisfies Record<string, (places: readonly string[]) => (one: string, other: string) => boolean>;

/** The same content in other bytes: with a field that nobody knows. */
function encodedAgain({ signed, signature, hops }: Sealed): Sealed {
  return { signed: Uint8Array.from([...signed, 0xf8, 0x3f, 0x01]), signature, hops };
}

export function runAnything(seed: number, trace?: string): RandomOutcome {
  return new Anything(seed, trace).run();
}
