/** The checks of a registry's entries, on virtual time: probes are answered by the test, and what turns is written like a client's report. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CheckSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type CheckResults, checksOf } from "../../src/catalog/entry/checks.ts";
import { BODY, type CatalogRecord, type KeyText } from "../../src/catalog/record/record.ts";
import { type ChecksParts, HealthChecks, type StartProbe } from "../../src/discovery/checks/checks.ts";
import { type CheckOutcome, PASSED } from "../../src/discovery/checks/threshold.ts";
import type { AliasTarget } from "../../src/discovery/checks/watched-checks.ts";
import { entryOwner } from "../../src/discovery/checks/watched-checks.ts";
import { Rng } from "../../src/lib/rng.ts";
import { at, caller, command, keyOf, Registry, stamped } from "./registry.ts";
import { ALL_TIME_COUNTS } from "./stall-clock.ts";

export type CheckInit = MessageInitShape<typeof CheckSchema>;

const ANN = caller("ann");

/** Of a node without entries that have checks. */
export function noChecks(): HealthChecks {
  const nothing = () => undefined;
  const parts = { checkedOf: nothing, ownerOf: () => "", aliasOf: nothing, write: nothing };
  return new HealthChecks({ isEnabled: false, stallClock: ALL_TIME_COUNTS, random: () => 0, ...parts });
}

/** `svc/<name>` with one target of that name, so that the test knows whom a probe looks at. */
export function watchedEntry(name: string, checks: readonly CheckInit[], rest: Parameters<typeof stamped>[1] = {}) {
  return stamped(name, { targets: [{ host: `${name}.local`, port: 80 }], checks: [...checks], ...rest });
}

export class WatchedWorld {
  readonly r: Registry;
  checks!: HealthChecks;
  ms = 0;
  isCaughtUp = true;
  /** What a probe of a host finds; by default it passes. */
  readonly found = new Map<string, CheckOutcome>();
  /** Probes under way are kept here instead, while this is set. */
  held: StartProbe[] | undefined;
  /** Probes of these hosts are never answered. */
  isSilent = (_host: string): boolean => false;
  /** Look-ups of these names end only when the test calls `resolved`. */
  isResolving = (_host: string): boolean => false;
  readonly resolving: StartProbe[] = [];
  /** Ids of the probes that were stopped. */
  readonly cut = new Set<number>();
  readonly probed: { readonly host: string; readonly ms: number }[] = [];
  /** Throws, while the clock of the node is off. */
  beforeWrite = (): void => {};
  isJournalFailing = false;
  readonly #parts: Partial<ChecksParts>;

  constructor(parts: Partial<ChecksParts> = {}, r = new Registry()) {
    this.#parts = parts;
    this.r = r;
    this.#open();
  }

  #open(): void {
    const { registrar, replica } = this.r;
    const rng = new Rng("checks");
    this.checks = new HealthChecks({
      isEnabled: true,
      stallClock: ALL_TIME_COUNTS,
      random: () => rng.next(),
      checkedOf: (key) => this.#checked(replica.own(key)),
      ownerOf: (key) => {
        const own = replica.own(key);
        return entryOwner(own?.traits.tenantId ?? "", own?.principal ?? "");
      },
      aliasOf: (key) => this.#aliasOf(keyOf(key.name)),
      write: (key, states, time) => {
        this.beforeWrite();
        registrar.found(key, states, time);
      },
      ...this.#parts,
    });
    registrar.followers.add(this.checks);
    this.checks.restored(
      replica.self.log.list().map(({ key }) => key),
      at(this.ms),
    );
  }

  /** A new life of the node. What was under way is forgotten. */
  restart(): void {
    this.r.restart(at(this.ms));
    this.#open();
  }

  #checked(record: CatalogRecord | undefined): CheckResults | undefined {
    return record?.body === BODY.ENTRY ? checksOf(this.r.replica.slab.view(record.at, record.sizeBytes)) : undefined;
  }

  #aliasOf(key: KeyText): AliasTarget | undefined {
    const record = this.r.replica.view(key);
    const checked = this.#checked(record);
    return record === undefined || checked === undefined ? undefined : { record, checked };
  }

  register(...entries: readonly ReturnType<typeof watchedEntry>[]): void {
    this.registerBy("ann", ...entries);
  }

  registerBy(principal: string, ...entries: readonly ReturnType<typeof watchedEntry>[]): void {
    this.r.registrar.register(caller(principal), command(entries, { isStatic: true }), at(this.ms));
    this.commit();
  }

  report(name: string, health: number | undefined, utilization?: number): void {
    const load = utilization === undefined ? undefined : { activeClients: 1, errorRate: 0, latencyMs: 1, utilization, observedWallMs: 1 };
    const report = { key: keyOf(name), path: "reports[0]", health: health as 1 | undefined, load };
    this.r.registrar.renew(ANN, [], [report], at(this.ms));
    this.commit();
  }

  unregister(name: string): void {
    this.r.registrar.unregisterKeys(ANN, [keyOf(name)], at(this.ms));
    this.commit();
  }

  /** Everything staged is on disk, or undone. */
  commit(): void {
    if (this.isJournalFailing) this.r.refuse();
    else this.r.flush(at(this.ms));
  }

  /** Does what is due now, once. */
  step(): readonly StartProbe[] {
    const orders = this.checks.step(at(this.ms), this.isCaughtUp);
    const probes = orders.filter((order) => order.kind === "probe");
    for (const order of probes) {
      this.probed.push({ host: order.probe.host, ms: this.ms });
      if (this.isResolving(order.probe.host)) this.resolving.push(order);
      else this.checks.resolved(order.id);
    }
    for (const { kind, id } of orders) if (kind === "cutProbe") this.cut.add(id);
    this.commit();
    return probes;
  }

  /** Time goes on, from one deadline to the next. Probes are answered at once. */
  run(forMs: number): void {
    const endMs = this.ms + forMs;
    for (let turn = 0; turn < 100_000; turn++) {
      const orders = this.step();
      if (this.held !== undefined) this.held.push(...orders);
      else for (const order of orders) if (!this.isSilent(order.probe.host)) this.answer(order);
      if (orders.length > 0) continue;
      const nextMs = this.checks.nextDeadlineMs();
      if (nextMs > endMs) break;
      this.ms = Math.max(this.ms, nextMs);
    }
    this.ms = endMs;
  }

  answer({ id, probe }: StartProbe): void {
    this.checks.probed(id, this.found.get(probe.host) ?? PASSED, at(this.ms));
  }

  /** What readers see of an entry. */
  seen(name: string) {
    const record = this.r.replica.view(keyOf(name));
    const checked = this.#checked(record);
    if (record === undefined || checked === undefined) return undefined;
    const { reportedHealth, checkStates } = checked;
    return { health: record.health, reportedHealth, states: checkStates.map(({ health }) => health), checkStates };
  }

  get changeCount(): number {
    return this.r.replica.revision;
  }
}
