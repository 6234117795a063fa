/**
 * A fabric without token and certificates is open: every process that reaches it can read and change the data that credentials, tenants and policy
 * protect on the other listeners. So a node must not have both an open fabric and data to protect (semantics.md, Policy).
 */
import { isFabricOpen, OPEN_FABRIC_REMEDY, openFabricFault, protectingSetting, wantsPeers } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicyEngine } from "../../policy/versions/engine.ts";

/** Whether a node runs its fabric. */
export type FabricChoice =
  /** The node runs its fabric as configured. */
  | { readonly kind: "joined" }
  /** The node runs without its fabric. `detail` has the reason, for `/readyz` and the log. */
  | { readonly kind: "alone"; readonly detail: string };

/** Throws if an open fabric would bypass the protection of this node, and other nodes are expected or were connected (`hadPeers`). */
export function chooseFabric(settings: Settings, policies: StoredPolicies, hadPeers: boolean): FabricChoice {
  if (settings.fabric.enabled === false) return { kind: "alone", detail: "standalone: fabric.enabled is off" };
  const stored = hasStoredPolicy(policies) ? "a stored policy" : undefined;
  const protecting = isFabricOpen(settings) ? (protectingSetting(settings) ?? stored) : undefined;
  if (protecting === undefined) return { kind: "joined" };
  if (wantsPeers(settings) || hadPeers) throw new Error(openFabricFault(protecting));
  const why = `the fabric has neither token nor certificates, and ${protecting} protects this node`;
  return { kind: "alone", detail: `standalone: ${why}; to connect to peers, set fabric.cluster_token_file or fabric.cert_file` };
}

/** The policies that a node has stored. */
export type StoredPolicies = Pick<PolicyEngine, "newestNumber" | "status">;

/** Whether there is a policy to protect. An unreadable policy must be protected as well. */
function hasStoredPolicy({ newestNumber, status }: StoredPolicies): boolean {
  return newestNumber > 0 || status.isEnabled;
}

/** Whether a version of the policy came from another node, which must have been a peer. */
export function hasAdopted(policies: Pick<PolicyEngine, "history">, nodeId: string): boolean {
  return policies.history().some(({ facts }) => facts !== undefined && facts.nodeId !== "" && facts.nodeId !== nodeId);
}

export interface GuardParts {
  readonly settings: Settings;
  readonly policies: StoredPolicies;
  readonly nodeId: string;
  /** Whether the data directory has the marker for earlier peers. */
  readonly isMarked: boolean;
}

/** Tracks whether this node has ever had peers, detects the first peer, and prevents an open fabric from bypassing a policy. */
export class FabricGuard {
  readonly #parts: GuardParts;
  #isMarked: boolean;
  #isShown = false;
  /** Number of policies that are being stored. */
  #pendingCount = 0;

  constructor(parts: GuardParts) {
    this.#parts = parts;
    this.#isMarked = parts.isMarked;
  }

  /** Whether this node has ever had a peer. */
  get hadPeers(): boolean {
    return this.#isMarked || this.#isShown;
  }

  /** Whether this node will join others and has never had a peer. */
  get isToMeetOthers(): boolean {
    return wantsPeers(this.#parts.settings) && !this.hadPeers;
  }

  /**
   * Must be called if the data directory contains data that only another node can have sent. In a directory from an older version, which has no
   * marker, only such data reveals earlier peers.
   */
  shown(): void {
    this.#isShown = true;
  }

  /**
   * Notes a member. Returns whether this peer is the first one. If so, the marker must be written, so that this node does not later run standalone
   * without an error.
   */
  note(nodeId: string): boolean {
    if (this.#isMarked || nodeId === this.#parts.nodeId) return false;
    this.#isMarked = true;
    return true;
  }

  /**
   * Must be called before a policy is stored. If the fabric is open, it throws `fabric_open` when other nodes are connected, were connected or are
   * expected, because they could replace the policy. Otherwise it prevents other nodes from joining from now on. Call the returned function if the
   * policy was not stored after all.
   */
  secure(fabric: Pick<Fabric, "links" | "membership" | "seal"> | undefined): () => void {
    const { settings, policies } = this.#parts;
    if (fabric === undefined || !isFabricOpen(settings)) return () => {};
    // Members that have gone may come back, and a node whose handshake is in progress may become a member.
    const hasOthers = fabric.membership.members().length > 1 || fabric.links().length > 0;
    if (hasOthers || this.hadPeers || wantsPeers(settings))
      throw new WaymarkError(
        "fabric_open",
        `policy not stored: the fabric of this node has neither token nor certificates, so any process that joins it could replace the policy. ${OPEN_FABRIC_REMEDY}`,
      );
    fabric.seal.isClosed = true;
    this.#pendingCount += 1;
    return () => {
      this.#pendingCount -= 1;
      if (this.#pendingCount === 0 && !hasStoredPolicy(policies)) fabric.seal.isClosed = false;
    };
  }
}
