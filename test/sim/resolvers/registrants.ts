/** Clients that register at nodes. Each thing they do is a deed of the history, and the entry that it makes says its number. */
import { create } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { type KeyText, KIND, keyParts, keyText } from "../../../src/catalog/record/record.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { caller, command } from "../../fakes/registry.ts";
import { NAMESPACES } from "../clients.ts";
import type { SimNode, SimProcess } from "../sim-node.ts";
import type { World } from "../world.ts";
import { numberOf } from "./answers.ts";
import type { Deed, History } from "./history.ts";

/** By name, how many instances it may have. The guard looks at names with at least three. */
const INSTANCES = [1, 4, 2] as const;
export const NAMES: readonly { readonly namespace: string; readonly name: string }[] = NAMESPACES.flatMap((namespace) =>
  INSTANCES.map((_, i) => ({ namespace, name: `n${i}` })),
);
export const KEYS: readonly KeyText[] = NAMESPACES.flatMap((namespace) =>
  INSTANCES.flatMap((count, i) =>
    Array.from({ length: count }, (_, instance) =>
      keyText({ kind: KIND.SERVICE, namespace, name: `n${i}`, instanceId: `i${instance}`, clusterId: "c1" }),
    ),
  ),
);

const TTL_MS = 5000;
const RENEW_MS = 1500;
const LOOK_MS = 500;
const ANN = caller("ann");
/** So that a snapshot has more than one message. */
const NOTE = { note: "x".repeat(1000) };

export interface RegistrantParts {
  readonly world: World;
  readonly history: History;
  readonly nodes: readonly SimNode[];
  readonly gone: ReadonlySet<number>;
}

export class Registrants {
  readonly #parts: RegistrantParts;
  readonly #unsettled = new Set<Deed>();
  /** By key, the number of the put whose lease is renewed. */
  readonly #renewed = new Map<KeyText, number>();

  constructor(parts: RegistrantParts) {
    this.#parts = parts;
  }

  put(key: KeyText, node: number, scope: Scope, isStatic: boolean): void {
    this.#at(node, (process) => {
      const deed = this.#did(key, "put", scope, node);
      const { kind, namespace, name, instanceId } = keyParts(key);
      const { nodeId, clusterId, region, zone } = process.node.options;
      const entry = create(EntrySchema, {
        key: create(EntryKeySchema, { kind, namespace, name, instanceId }),
        tags: [`d${deed.number}`],
        metadata: NOTE,
        scope,
      });
      const stamped = process.stamper.entryOf(entry, 0, { nodeId, clusterId, region, zone, tenantId: "", receivedWallMs: 0 });
      const terms = isStatic ? { isStatic } : { ttlMs: TTL_MS };
      const { leaseId } = process.registrar.register(ANN, command([stamped], terms), process.time());
      this.#renewed.delete(key);
      if (isStatic) return;
      this.#renewed.set(key, deed.number);
      this.#renewLater(deed, { leaseId, process });
    });
  }

  end(key: KeyText, node: number): void {
    this.#at(node, (process) => {
      this.#did(key, "end", SCOPE.ZONE, node);
      this.#renewed.delete(key);
      process.registrar.unregisterKeys(ANN, [key], process.time());
    });
  }

  /** Nobody renews its lease any more. */
  lapse(key: KeyText): void {
    if (this.#renewed.delete(key)) this.#did(key, "lapse", SCOPE.ZONE, this.#parts.history.last(key)?.node ?? 0);
  }

  start(): void {
    this.#parts.world.after(LOOK_MS, () => {
      this.#settle();
      this.start();
    });
  }

  #did(key: KeyText, kind: Deed["kind"], scope: Scope, node: number): Deed {
    const deed = this.#parts.history.did({ key, kind, scope, node });
    this.#unsettled.add(deed);
    return deed;
  }

  #at(index: number, run: (process: SimProcess) => void): void {
    const node = this.#parts.nodes[index];
    node?.enqueue(() => {
      const { process } = node;
      if (process === undefined || process.isClosed || process.isStopped) return;
      try {
        run(process);
        process.durable(() => {});
        process.arm();
      } catch (error) {
        // It is not ready, or the policy refuses it.
        if (!(error instanceof WaymarkError)) throw error;
      }
    });
  }

  #renewLater(deed: Deed, lease: { readonly leaseId: string; readonly process: SimProcess }): void {
    this.#parts.world.after(RENEW_MS, () => {
      if (this.#renewed.get(deed.key) !== deed.number) return;
      const { process, leaseId } = lease;
      const isLost = process.isStopped || process.registrar.renew(ANN, [leaseId], [], process.time()).expiredLeaseIds.length > 0;
      if (isLost) return this.lapse(deed.key);
      process.durable(() => {});
      process.arm();
      this.#renewLater(deed, lease);
    });
  }

  /** Notes what every node knows by now. */
  #settle(): void {
    const { nodes, gone, history, world } = this.#parts;
    const processes = nodes.flatMap(({ process, index }) => (gone.has(index) ? [] : [process]));
    for (const deed of this.#unsettled) {
      const isLast = history.last(deed.key) === deed;
      if (!isLast || deed.scope === SCOPE.LOCAL) {
        this.#unsettled.delete(deed);
        continue;
      }
      const isKnown = (process: SimProcess | undefined) => {
        const view = process?.replica.view(deed.key);
        return process !== undefined && (deed.kind === "put" ? view !== undefined && numberOf(view) === deed.number : view === undefined);
      };
      if (!processes.every(isKnown)) continue;
      this.#unsettled.delete(deed);
      deed.settledMs = world.nowMs;
    }
  }
}
