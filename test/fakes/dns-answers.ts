/**
 * What DNS is to answer, the naive way: all entries are looked at for each question, by the rules of semantics.md, DNS. No index, no cache, no
 * code of the product but the constants of the wire.
 */
import type { PolicyModel } from "./policy-model.ts";

export type NaiveHealth = "HEALTHY" | "DEGRADED" | "CRITICAL" | "MAINTENANCE" | "ORPHANED";

export interface NaiveTarget {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly protocol: string;
  readonly priority: number;
  readonly weight: number;
}

export interface NaiveEntry {
  readonly kind: "SERVICE" | "FUNCTION" | "QUEUE";
  readonly namespace: string;
  readonly name: string;
  readonly instance: string;
  readonly cluster: string;
  readonly region: string;
  readonly zone: string;
  readonly tenant: string;
  readonly isAdmins: boolean;
  /** 1 LOCAL to 4 GLOBAL. */
  readonly scope: number;
  readonly health: NaiveHealth;
  readonly ttlSeconds: number;
  readonly targets: readonly NaiveTarget[];
  readonly aliases: readonly string[];
}

export interface NaiveView {
  readonly cluster: string;
  readonly tenant: string;
  readonly region: string;
  readonly zone: string;
}

export interface NaiveBounds {
  readonly zone: string;
  readonly minTtlSeconds: number;
  readonly maxTtlSeconds: number;
  readonly staleTtlSeconds: number;
}

/** Records as `type data`, sorted, each set with one TTL. `undefined` for sets whose content the model does not say. */
export interface NaiveAnswer {
  readonly rcode: "NOERROR" | "NXDOMAIN";
  /** CNAMEs in order, then the set. `owner ttl type data`. */
  readonly lines: readonly string[];
}

const TIERS: Readonly<Record<NaiveHealth, number>> = { HEALTHY: 0, DEGRADED: 1, CRITICAL: 2, ORPHANED: 3, MAINTENANCE: 9 };
const LABELS: Readonly<Record<string, NaiveEntry["kind"]>> = { _svc: "SERVICE", _rpc: "FUNCTION", _mpreg: "FUNCTION", _queue: "QUEUE" };
/** In the order of their keys. */
const KINDS: readonly NaiveEntry["kind"][] = ["SERVICE", "FUNCTION", "QUEUE"];
const BROWSED = "_services._dns-sd._udp.";
const V4 = /^\d+\.\d+\.\d+\.\d+$/;
const isIp = (host: string): boolean => V4.test(host) || host.includes(":");

export class NaiveDns {
  entries: readonly NaiveEntry[] = [];
  readonly policy: PolicyModel;
  readonly #bounds: NaiveBounds;

  constructor(policy: PolicyModel, bounds: NaiveBounds) {
    this.policy = policy;
    this.#bounds = bounds;
  }

  answer(view: NaiveView, relative: string, type: string): NaiveAnswer {
    const { zone } = this.#bounds;
    const owner = relative === "" ? zone : `${relative}.${zone}`;
    if (type === "PTR") return this.#services(view, owner, relative.slice(BROWSED.length));
    const own = this.#own(view, relative);
    if (own !== undefined) return this.#records(view, own, owner, type);
    const aliasOwners = this.#aliasOwners(view, relative);
    const pods = aliasOwners.filter(
      ({ kind, name, namespace }) => kind === "SERVICE" && relative.split(".").slice(1).join(".") === `${name}.${namespace}`,
    );
    if (pods.length > 0) return this.#records(view, { isLocated: false, entries: pods, transport: "", port: undefined }, owner, type);
    const [first] = aliasOwners;
    if (first !== undefined) {
      const nameOf = ({ kind, namespace, name }: NaiveEntry) => `${kind} ${name}.${namespace}`;
      const same = aliasOwners.filter((entry) => nameOf(entry) === nameOf(first));
      const target = this.#canonical(first);
      const cname = `${owner}. ${this.#ttl(same)} CNAME ${target}.${zone}.`;
      if (type === "CNAME") return { rcode: "NOERROR", lines: [cname] };
      const rest = this.answer(view, target, type);
      return { rcode: rest.rcode, lines: [cname, ...rest.lines] };
    }
    return { rcode: this.#isAbove(view, relative) ? "NOERROR" : "NXDOMAIN", lines: [] };
  }

  /** The services of a namespace, each by the transports of those of its entries that are shown. */
  #services(view: NaiveView, owner: string, namespace: string): NaiveAnswer {
    const seen = this.entries.filter((entry) => entry.kind === "SERVICE" && entry.namespace === namespace && this.#sees(view, entry));
    const names = seen.filter(isListed).flatMap(({ name, targets }) => {
      const transports = targets.length === 0 ? ["tcp"] : targets.map(transportOf);
      return transports.map((transport) => `_svc._${transport}.${name}.${namespace}.${this.#bounds.zone}.`);
    });
    const ttl = this.#ttl(seen.filter(isListed));
    return { rcode: seen.length === 0 ? "NXDOMAIN" : "NOERROR", lines: names.map((name) => `${owner}. ${ttl} PTR ${name}`) };
  }

  #sees(view: NaiveView, entry: NaiveEntry): boolean {
    return this.policy.sees(view, entry.namespace) && this.#isAdmitted(entry);
  }

  /** Whether the owners' rules let anybody see it. */
  #isAdmitted(entry: NaiveEntry): boolean {
    return this.#mayPublish(entry, entry.namespace);
  }

  #mayPublish({ cluster, region, scope }: NaiveEntry, namespace: string): boolean {
    if (this.policy.set === undefined) return true;
    const rule = this.policy.ruleOf(namespace);
    if (rule === undefined) return this.policy.set.defaultAllow;
    if (rule.owners.length === 0 || rule.owners.includes(cluster) || rule.owners.includes(region)) return true;
    return scope <= 2 && cluster === "c1";
  }

  #own(view: NaiveView, relative: string): Own | undefined {
    const labels = relative.split(".");
    const [first = "", second = ""] = labels;
    const isTransport = second === "_tcp" || second === "_udp";
    if (isTransport && first.startsWith("_")) {
      const kind = LABELS[first] ?? "SERVICE";
      const port = LABELS[first] === undefined ? first.slice(1) : undefined;
      const transport = second.slice(1);
      const entries = this.#named(view, kind, labels.slice(2)).filter(({ targets }) => hasPort(targets, transport, port));
      return entries.length === 0 ? undefined : { isLocated: true, entries, transport, port };
    }
    const entries = this.#named(view, "SERVICE", labels);
    return entries.length === 0 ? undefined : { isLocated: false, entries, transport: "", port: undefined };
  }

  #named(view: NaiveView, kind: NaiveEntry["kind"], [name = "", ...rest]: readonly string[]): readonly NaiveEntry[] {
    const namespace = rest.join(".");
    return this.entries.filter(
      (entry) => entry.kind === kind && entry.name === name && entry.namespace === namespace && this.#sees(view, entry),
    );
  }

  #canonical({ kind, name, namespace, targets }: NaiveEntry): string {
    if (kind === "SERVICE") return `${name}.${namespace}`;
    const transports = [...new Set(targets.map(transportOf))];
    const transport = transports.length === 1 ? transports[0] : "tcp";
    return `${kind === "FUNCTION" ? "_rpc" : "_queue"}._${transport}.${name}.${namespace}`;
  }

  /** In key order. */
  #aliasOwners(view: NaiveView, relative: string): readonly NaiveEntry[] {
    return this.entries
      .filter((entry) => this.#sees(view, entry) && this.#aliasNames(view, entry).includes(relative))
      .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  #isRightful(entry: NaiveEntry, name: string): boolean {
    const labels = name.split(".");
    if (labels.length === 1 && !entry.isAdmins) return false;
    return labels.every((_, i) => {
      const suffix = labels.slice(i).join(".");
      const isAsked = i === 1 || this.policy.ruleOf(suffix) !== undefined;
      return !isAsked || (this.#mayPublish(entry, suffix) && this.policy.sees({ cluster: entry.cluster, tenant: entry.tenant }, suffix));
    });
  }

  #isAbove(view: NaiveView, relative: string): boolean {
    const isUnder = (name: string) => `.${name}`.endsWith(`.${relative}`);
    return this.entries.some((entry) => {
      if (!this.#sees(view, entry)) return false;
      return this.namesOf(entry).some(isUnder) || this.#aliasNames(view, entry).some(isUnder);
    });
  }

  /** The names below the zone that an entry makes exist by itself. */
  namesOf({ kind, name, namespace, targets }: NaiveEntry): readonly string[] {
    const at = `${name}.${namespace}`;
    const transports = targets.length === 0 ? ["tcp"] : [...new Set(targets.map(transportOf))];
    const labels = Object.keys(LABELS).filter((label) => LABELS[label] === kind);
    const located = labels.flatMap((label) => transports.map((transport) => `${label}._${transport}.${at}`));
    if (kind !== "SERVICE") return located;
    const ports = targets.flatMap((target) => (target.name === "" ? [] : [`_${target.name}._${transportOf(target)}.${at}`]));
    return [at, ...located, ...ports];
  }

  #aliasNames(view: NaiveView, entry: NaiveEntry): readonly string[] {
    return entry.aliases
      .map((alias) => alias.toLowerCase().replace(/\.$/, ""))
      .flatMap((alias) => (alias.endsWith(`.${this.#bounds.zone}`) ? [alias.slice(0, -this.#bounds.zone.length - 1)] : [alias]))
      .filter((alias) => {
        const namespace = alias.split(".").slice(1).join(".");
        if (!this.#isRightful(entry, alias) || (namespace !== "" && !this.policy.sees(view, namespace))) return false;
        return this.policy.ruleOf(alias) === undefined || this.policy.sees(view, alias);
      });
  }

  #records(view: NaiveView, own: Own, owner: string, type: string): NaiveAnswer {
    const shown = own.entries.filter(({ health }) => health !== "MAINTENANCE");
    const lines = own.isLocated ? this.#located(view, own, shown, owner, type) : this.#direct(view, shown, owner, type);
    return { rcode: "NOERROR", lines };
  }

  #located(view: NaiveView, { transport, port }: Own, shown: readonly NaiveEntry[], owner: string, type: string): readonly string[] {
    if (type === "TXT") return this.#texts(shown, owner);
    if (type !== "SRV") return [];
    const targets = shown.flatMap((entry) =>
      entry.targets.filter((target) => isShown(target, entry.targets, transport, port)).map((target) => ({ entry, target })),
    );
    const best = new Map<string, number>();
    for (const { entry, target } of targets) {
      const { host, port: number, priority } = target;
      // A target without a weight has 1, unless a target of the same entry and priority next to it has a weight.
      const isOutweighed = targets.some((other) => other.entry === entry && other.target.priority === priority && other.target.weight > 0);
      const weight = target.weight > 0 ? target.weight : isOutweighed ? 0 : 1;
      const distance = entry.zone === view.zone && entry.region === view.region ? 0 : entry.region === view.region ? 1 : 2;
      const level = 10_000 * TIERS[entry.health] + 1_000 * (view.region === "" ? 0 : distance) + Math.min(priority, 999);
      const name = isIp(host) ? `${addressLabel(host)}.addr.node.${this.#bounds.zone}` : host;
      // The same endpoint of two entries is said once, as the better of them.
      const same = `${priority} ${weight} ${number} ${name}.`;
      best.set(same, Math.min(level, best.get(same) ?? level));
    }
    const lines = [...best].map(([same, level]) => `SRV ${level} ${same.slice(same.indexOf(" ") + 1)}`);
    return this.#set(
      owner,
      lines,
      targets.map(({ entry }) => entry),
    );
  }

  #direct(view: NaiveView, shown: readonly NaiveEntry[], owner: string, type: string): readonly string[] {
    const tierOf = ({ health }: NaiveEntry) => Math.min(2, TIERS[health]);
    const withTargets = shown.filter(({ targets }) => targets.length > 0);
    const best = Math.min(...withTargets.map(tierOf));
    const targets = withTargets
      .filter((entry) => tierOf(entry) === best)
      .flatMap((entry) => entry.targets.map((target) => ({ entry, target })));
    const [first] = targets;
    if (first !== undefined && targets.every(({ target }) => !isIp(target.host))) return this.#remoteLookup(view, targets, owner, type);
    if (type === "TXT") return this.#texts(shown, owner);
    if (type !== "A" && type !== "AAAA") return [];
    const found = targets.filter(({ target: { host } }) => (type === "A" ? V4.test(host) : host.includes(":")));
    return this.#set(
      owner,
      found.map(({ target }) => `${type} ${target.host}`),
      found.map(({ entry }) => entry),
    );
  }

  #texts(shown: readonly NaiveEntry[], owner: string): readonly string[] {
    return this.#set(owner, shown.length === 0 ? [] : ["TXT"], shown);
  }

  /** The name is another's: a CNAME for every type, and what is there if it is in the zone. */
  #remoteLookup(
    view: NaiveView,
    targets: readonly { readonly entry: NaiveEntry; readonly target: NaiveTarget }[],
    owner: string,
    type: string,
  ): readonly string[] {
    const host = targets[0]?.target.host ?? "";
    const ttl = this.#ttl(targets.map(({ entry }) => entry));
    void [view, type];
    return [`${owner}. ${ttl} CNAME ${host}.`];
  }

  #set(owner: string, lines: readonly string[], from: readonly NaiveEntry[]): readonly string[] {
    return lines.map((line) => `${owner}. ${this.#ttl(from)} ${line}`);
  }

  #ttl(entries: readonly NaiveEntry[]): number {
    const { minTtlSeconds, maxTtlSeconds, staleTtlSeconds } = this.#bounds;
    const least = Math.min(...entries.map(({ ttlSeconds }) => Math.min(maxTtlSeconds, Math.max(minTtlSeconds, ttlSeconds))));
    return entries.some(({ health }) => health === "ORPHANED") ? Math.min(least, staleTtlSeconds) : least;
  }
}

/** Whether a list of services counts it. */
function isListed({ health }: NaiveEntry): boolean {
  return health !== "MAINTENANCE";
}

interface Own {
  readonly isLocated: boolean;
  readonly entries: readonly NaiveEntry[];
  readonly transport: string;
  readonly port: string | undefined;
}

function transportOf({ protocol }: NaiveTarget): string {
  return protocol === "udp" ? "udp" : "tcp";
}

function hasPort(targets: readonly NaiveTarget[], transport: string, port: string | undefined): boolean {
  if (targets.length === 0) return transport === "tcp" && port === undefined;
  return targets.some((target) => transportOf(target) === transport && (port === undefined || target.name === port));
}

/** A target without a name has that of another target of its entry with the same port. */
function isShown(target: NaiveTarget, all: readonly NaiveTarget[], transport: string, port: string | undefined): boolean {
  if (transportOf(target) !== transport) return false;
  if (port === undefined || target.name === port) return true;
  return target.name === "" && all.some((other) => other.name === port && other.port === target.port && transportOf(other) === transport);
}

/** `10-0-0-1`, or all eight groups of IPv6. */
function addressLabel(host: string): string {
  if (V4.test(host)) return host.replaceAll(".", "-");
  const [before = "", after = ""] = host.split("::");
  const groups = (text: string) => text.split(":").filter((group) => group !== "");
  const zeros = Array.from({ length: 8 - groups(before).length - groups(after).length }, () => "0");
  return [...groups(before), ...zeros, ...groups(after)].join("-");
}

function keyOf({ namespace, name, kind, cluster, instance }: NaiveEntry): string {
  return [namespace, name, KINDS.indexOf(kind), instance, cluster].join("\0");
}
