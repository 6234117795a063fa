/**
 * What DNS holds beyond the catalog, in one process with a catalog of its own: `node --expose-gc bench/_dns-memory-child.ts NAMES WHAT`. It prints the bytes a name that
 * live after a collection. WHAT: `names` (the index of names that have names below them), `aliases` (the same, each name with an alias), `addresses` (the same with a reverse
 * zone), `stamps` (what the plans of an A and an SRV question for each name rest on), or `listed` (the same, with the list that each plan has of them). Plans are never kept.
 */
import { DnsNames } from "../src/discovery/dns-names.ts";
import { CatalogReads } from "../src/discovery/reads.ts";
import { planAnswer } from "../src/dns/plan/answer.ts";
import { DependencyIndex, type PlanDependency } from "../src/dns/subject/dependency-index.ts";
import { dnsCatalog } from "../src/dns/views/catalog.ts";
import { parseBlock } from "../src/lib/addresses.ts";
import { NO_POLICY } from "../src/policy/set/verdict.ts";
import { entryView, TEST_DNS_SETTINGS } from "../test/fakes/dns-catalog.ts";
import { at, draftAt, Registry } from "../test/fakes/registry.ts";
import { entriesOf, questionsOf } from "./_dns.ts";
import { fail } from "./_work.ts";

export type DnsPart = "names" | "aliases" | "addresses" | "stamps" | "listed";

const [names, what] = [Number(process.argv[2]), process.argv[3]];
const IDENTITY = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
const BATCH_NAMES = 300;
const TYPES: Readonly<Record<string, number>> = { A: 1, SRV: 33 };
/** As `dns.plan_bytes` is by default. */
const PLAN_BYTES = 64 << 20;
/** No single plan rests on more than this. */
const MOST_FACTS = PLAN_BYTES / 8;

function filled(): Registry {
  const r = new Registry();
  for (let from = 0; from < names; from += BATCH_NAMES) {
    const numbers = Array.from({ length: Math.min(BATCH_NAMES, names - from) }, (_, i) => from + i);
    const drafts = entriesOf(numbers, { hasAlias: what === "aliases" }).map(({ key, ...entry }) => draftAt(key ?? fail(), entry));
    r.register("ann", drafts, at(0), { isStatic: true });
  }
  return r;
}

function liveBytes(): number {
  for (let i = 0; i < 3; i++) global.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Both what is measured and what it is made from live until it was measured. */
function heldBy(make: () => unknown): number {
  const before = liveBytes();
  const made = make();
  const bytes = liveBytes() - before;
  return made === undefined ? fail() : bytes;
}

function index(r: Registry): DnsNames {
  const blocks = what === "addresses" ? [parseBlock("10.0.0.0/8") ?? fail()] : [];
  const dnsNames = new DnsNames(r.replica, TEST_DNS_SETTINGS.zones, blocks);
  dnsNames.refresh();
  return dnsNames;
}

/** The facts of all plans, and the list in which each plan would keep them. */
function stamps(
  r: Registry,
  dnsNames: DnsNames,
): { readonly facts: DependencyIndex; readonly lists: readonly (readonly PlanDependency[])[] | undefined } {
  const policies = { policy: NO_POLICY };
  const reads = new CatalogReads(r.replica, IDENTITY, { policies, onDenied: () => {} });
  const self = entryView({ kind: 1, namespace: "discovery.resolvers", name: "a", instanceId: "a" });
  const catalog = dnsCatalog(() => 0, { reads, replica: r.replica, dnsNames, identity: IDENTITY, policies, self });
  const facts = new DependencyIndex();
  dnsNames.follow(facts);
  const lists = questionsOf(names).map(({ name, type }) => {
    const { groups } = planAnswer({ name, type: TYPES[type] ?? fail(), class: 1 }, catalog, TEST_DNS_SETTINGS);
    if (groups.length === 0) throw new Error(`${name} has no answer`);
    return facts.take(new Set(catalog.takePlanDependencies().keys), MOST_FACTS);
  });
  return { facts, lists: what === "listed" ? lists : undefined };
}

const r = filled();
const dnsNames = what === "stamps" || what === "listed" ? index(r) : undefined;
const make = () => (dnsNames === undefined ? index(r) : stamps(r, dnsNames));
// Code that runs for the first time is compiled, and what it needs once is made.
make();
console.log(heldBy(make) / names);
