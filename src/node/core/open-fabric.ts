/**
 * A fabric without token and certificates is open: every process that reaches it reads and changes what credentials, tenants and policy protect
 * elsewhere. So a node has either an open fabric or something to protect (semantics.md, Policy).
 */
import { isFabricOpen, OPEN_FABRIC_REMEDY, openFabricFault, protectingSetting, wantsPeers } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicyEngine } from "../../policy/versions/engine.ts";

/** How a node runs its fabric. */
export type FabricChoice =
  /** As configured. */
  | { readonly kind: "joined" }
  /** Without a fabric. `detail` says why, for `/readyz` and the log. */
  | { readonly kind: "alone"; readonly detail: string };

/** Throws when the fabric would be a way past what protects this node, and other nodes are expected or were there (`hadPeers`). */
export function chooseFabric(settings: Settings, policies: StoredPolicies, hadPeers: boolean): FabricChoice {
  if (settings.fabric.enabled === false) return { kind: "alone", detail: "stands alone: fabric.enabled is off" };
  const stored = hasStoredPolicy(policies) ? "a stored policy" : undefined;
  const protecting = isFabricOpen(settings) ? (protectingSetting(settings) ?? stored) : undefined;
  if (protecting === undefined) return { kind: "joined" };
  if (wantsPeers(settings) || hadPeers) throw new Error(openFabricFault(protecting));
  const why = `the fabric has neither token nor certificates, and ${protecting} protects this node`;
  return { kind: "alone", detail: `stands alone: ${why}; set fabric.cluster_token_file or fabric.cert_file to have peers` };
}

/** The policies that a node has stored. */
export type StoredPolicies = Pick<PolicyEngine, "newestNumber" | "status">;

/** Whether there is a policy to protect. One that cannot be read counts. */
function hasStoredPolicy({ newestNumber, status }: StoredPolicies): boolean {
  return newestNumber > 0 || status.isEnabled;
}

/** Whether a version of the policy came from another node, which then was a peer. */
export function hasAdopted(policies: Pick<PolicyEngine, "history">, nodeId: string): boolean {
  return policies.history().some(({ facts }) => facts !== undefined && facts.nodeId !== "" && facts.nodeId !== nodeId);
}

export interface GuardParts {
  readonly settings: Settings;
  readonly policies: StoredPolicies;
  readonly nodeId: string;
  /** Whether the data directory has the mark that other nodes were there. */
  readonly isMarked: boolean;
}

/** Knows whether other nodes were ever there, notices the first peer, and prevents that an open fabric is a way past a policy. */
export class FabricGuard {
  readonly #parts: GuardParts;
  #isMarked: boolean;
  #isShown = false;
  /** Policies that are being stored. */
  #pendingCount = 0;

  constructor(parts: GuardParts) {
    this.#parts = parts;
    this.#isMarked = parts.isMarked;
  }

  /** Whether this node was ever a member beside others. */
  get hadPeers(): boolean {
    return this.#isMarked || this.#isShown;
  }

  /** Whether this node is to join others and has never met one. */
  get isToMeetOthers(): boolean {
    return wantsPeers(this.#parts.settings) && !this.hadPeers;
  }

  /** The data directory holds data that only another node can have sent. A directory from before the mark shows its peers in this way only. */
  shown(): void {
    this.#isShown = true;
  }

  /** Takes a member. Returns whether it is the first other node: the data directory must say so, and then this node does not quietly stand alone. */
  note(nodeId: string): boolean {
    if (this.#isMarked || nodeId === this.#parts.nodeId) return false;
    this.#isMarked = true;
    return true;
  }

  /**
   * To be called before a policy is stored. With an open fabric it throws `fabric_open` if other nodes are or were there, or are expected, because
   * they could replace the policy; otherwise nobody gets in from now on. The returned function is for a policy that was not stored after all.
   */
  secure(fabric: Pick<Fabric, "links" | "membership" | "seal"> | undefined): () => void {
    const { settings, policies } = this.#parts;
    if (fabric === undefined || !isFabricOpen(settings)) return () => {};
    // Members that are gone may come back, and a node that is being greeted may stay.
    const hasOthers = fabric.membership.members().length > 1 || fabric.links().length > 0;
    if (hasOthers || this.hadPeers || wantsPeers(settings))
      throw new WaymarkError(
        "fabric_open",
        `the fabric of this node has neither token nor certificates, so whoever joins it could replace a policy. ${OPEN_FABRIC_REMEDY}`,
      );
    fabric.seal.isClosed = true;
    this.#pendingCount += 1;
    return () => {
      this.#pendingCount -= 1;
      if (this.#pendingCount === 0 && !hasStoredPolicy(policies)) fabric.seal.isClosed = false;
    };
  }
}
