/**
 * A fabric without token and certificates is open to every process that reaches it: it reads and changes what credentials, tenants and
 * policy protect elsewhere. So a node has either an open fabric or something to protect (semantics.md, Policy).
 */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isFabricOpen, OPEN_FABRIC_REMEDY, openFabricFault, protectingSetting, wantsPeers } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { DATA_FILES } from "../../store/data-directory.ts";
import type { NodeCore } from "../rooms.io.ts";
import { isOthersInSnapshot } from "../snapshot-file.io.ts";

/** How a node runs its fabric. */
export type FabricChoice =
  /** As configured. */
  | { readonly kind: "joined" }
  /** Not at all, and why; for `/readyz` and the log. */
  | { readonly kind: "alone"; readonly detail: string };

/** Throws when the fabric would be a way past what protects this node, and other nodes are or were there. */
export async function chooseFabric(settings: Settings, core: NodeCore): Promise<FabricChoice> {
  if (settings.fabric.enabled === false) return { kind: "alone", detail: "stands alone: fabric.enabled is off" };
  const protecting = isFabricOpen(settings) ? (protectingSetting(settings) ?? storedPolicy(core)) : undefined;
  if (protecting === undefined) return { kind: "joined" };
  const why = `the fabric has neither token nor certificates, and ${protecting} protects this node`;
  if (!wantsPeers(settings) && !(await hadPeers(settings, core)))
    return { kind: "alone", detail: `stands alone: ${why}; set fabric.cluster_token_file or fabric.cert_file to have peers` };
  throw new Error(openFabricFault(protecting));
}

/** Watches over a fabric that runs: remembers that there were peers, and sees to it that an open one is not a way past a policy. */
export class FabricGuard {
  readonly #settings: Settings;
  readonly #core: NodeCore;
  readonly #log: Log;
  #isMarked: boolean;
  #pendingCount = 0;

  constructor(settings: Settings, core: NodeCore, log: Log) {
    this.#settings = settings;
    this.#core = core;
    this.#log = log;
    this.#isMarked = isMarked(settings);
  }

  /** A member: from the first other one on this node does not quietly stand alone. */
  note(nodeId: string): void {
    const { persistence } = this.#settings;
    if (this.#isMarked || nodeId === this.#core.identity.nodeId) return;
    this.#isMarked = true;
    if (persistence.ephemeral) return;
    writeFile(join(persistence.dataDir, DATA_FILES.hadPeers), "", { mode: 0o600 }).catch((error: unknown) => {
      this.#log.warn({ err: error }, "mark of the first peer not written");
    });
  }

  /**
   * Before a policy is stored. With an open fabric: throws `fabric_open` where others could put one in its place, because there are peers, or
   * were, or are meant to be; else nobody gets in from now on. What it returns is for a policy that was not stored after all.
   */
  secure(): () => void {
    const { fabric } = this.#core.machine;
    if (fabric === undefined || !isFabricOpen(this.#settings)) return () => {};
    // Also members that are gone may come back, and whoever is being greeted may stay.
    const hasOthers = fabric.membership.members().length > 1 || fabric.links().length > 0;
    if (hasOthers || this.#isMarked || wantsPeers(this.#settings))
      throw new WaymarkError(
        "fabric_open",
        `the fabric of this node has neither token nor certificates, so whoever joins it could replace a policy. ${OPEN_FABRIC_REMEDY}`,
      );
    fabric.seal.isClosed = true;
    this.#pendingCount += 1;
    return () => {
      this.#pendingCount -= 1;
      if (this.#pendingCount === 0 && storedPolicy(this.#core) === undefined) fabric.seal.isClosed = false;
    };
  }
}

function storedPolicy({ policies }: NodeCore): string | undefined {
  // What cannot be read may be one.
  return policies.newestNumber > 0 || policies.status.isEnabled ? "a stored policy" : undefined;
}

function isMarked({ persistence }: Settings): boolean {
  return !persistence.ephemeral && existsSync(join(persistence.dataDir, DATA_FILES.hadPeers));
}

/** Whether this node was ever a member beside others; of a data directory from before the mark, by what is in it of others. */
export async function hadPeers(settings: Settings, { identity, policies }: NodeCore): Promise<boolean> {
  const { dataDir, ephemeral } = settings.persistence;
  if (ephemeral) return false;
  const { nodeId } = identity;
  const isAdopted = policies.history().some(({ facts }) => facts !== undefined && facts.nodeId !== "" && facts.nodeId !== nodeId);
  return isMarked(settings) || isAdopted || (await isOthersInSnapshot(dataDir, nodeId));
}
