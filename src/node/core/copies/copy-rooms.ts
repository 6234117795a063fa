/**
 * The parts of a read worker: a copy of its node's replica, and everything that answers readers from this copy. The parts apply the messages from
 * `CopyFeed` in order, and answer as the main thread would have done at the same point.
 */

import type { ChangeMessage, MessageBufferReader } from "../../../catalog/copy/change-codec.ts";
import { ReplicaCopy } from "../../../catalog/copy/replica-copy.ts";
import { EntryStamper } from "../../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../catalog/entry/names.ts";
import type { KeyText } from "../../../catalog/record/record.ts";
import { TraitsPool } from "../../../catalog/record/traits.ts";
import { LoadReports } from "../../../discovery/registrar/load-reports.ts";
import { assert } from "../../../lib/errors.ts";
import { NO_POLICY, PENDING_POLICY, Policy } from "../../../policy/set/verdict.ts";
import { type CoreProcess, openReadingCore, openReplica, type ReadingCore, type ReadingCoreOptions } from "../reading-core.ts";
import { MARK, type PlainPolicy } from "./copy-feed.ts";

export interface CopyRoomsOptions extends CoreProcess, Pick<ReadingCoreOptions<never>, "makeBuckets" | "startedMonoMs" | "watches"> {
  readonly nodeId: string;
  /** The generation of the replica when the feed began. */
  readonly generation: number;
  /** Maximum number of distinct traits that entries share. */
  readonly maxTraits?: number;
}

export interface CopyRooms extends ReadingCore {
  /** Applies the feed. */
  readonly copy: CopyApplier;
}

/** State from the feed that is not part of the catalog. Until the feed sends a policy, no policy is in force and readers see nothing. */
interface CopyInputs {
  readonly loads: LoadReports;
  readonly policies: { policy: Policy };
}

export function openCopyRooms({ nodeId, generation, maxTraits, ...process }: CopyRoomsOptions): CopyRooms {
  const fed: CopyInputs = { loads: new LoadReports(0), policies: { policy: PENDING_POLICY } };
  const { policies, loads } = fed;
  const replica = openReplica({ nodeId, generation, lastSeq: 0, floor: 0 }, process.settings, policies);
  const core = openReadingCore({ ...process, replica, policies, loads });
  const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool(maxTraits) });
  return { ...core, copy: new CopyApplier(core, { fed, stamper, onAgain: process.onAgain }) };
}

class CopyApplier {
  readonly #core: ReadingCore;
  readonly #fed: CopyInputs;
  readonly #onAgain: () => void;
  readonly #copy: ReplicaCopy;

  constructor(
    core: ReadingCore,
    { fed, stamper, onAgain }: Pick<CoreProcess, "onAgain"> & { readonly fed: CopyInputs; readonly stamper: EntryStamper },
  ) {
    this.#core = core;
    this.#fed = fed;
    this.#onAgain = onAgain;
    this.#copy = new ReplicaCopy({
      replica: core.replica,
      stamper,
      onMark: (mark, message) => this.#onMark(mark, message),
      onWhole: () => core.switches.start(),
    });
  }

  /** Whether readers may be answered. */
  get isWhole(): boolean {
    return this.#copy.isWhole;
  }

  /** Applies a message from the feed, then updates DNS and watches. */
  apply(message: ChangeMessage): void {
    this.#copy.hear(message);
    if (!this.isWhole) return;
    this.#core.show();
    this.#onAgain();
    this.#core.switches.onFollowed();
  }

  #onMark(mark: number, message: Pick<MessageBufferReader, "number" | "text" | "value">): void {
    const { switches, fanout } = this.#core;
    switch (mark) {
      case MARK.POLICY:
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the feed sends a policy
        this.#fed.policies.policy = policyOf(message.value() as PlainPolicy);
        return;
      case MARK.BEGIN:
        return switches.begin(message.number());
      case MARK.SHOW:
        return switches.show();
      case MARK.LOAD:
        return this.#load(message);
      case MARK.UNLOAD:
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the feed sends the text of a key
        return this.#fed.loads.forget(message.text() as KeyText);
      case MARK.ALL_WATCHES:
        return fanout.all();
      case MARK.END_WATCHES:
        return fanout.end();
      case MARK.DRAIN_WATCHES:
        return fanout.drain(message.number());
      default:
        assert(false, "the feed contains an unknown mark", { mark });
    }
  }

  #load(message: Pick<MessageBufferReader, "number" | "text">): void {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    const key = message.text() as KeyText;
    const [activeClients, errorRate, latencyMs] = [message.number(), message.number(), message.number()];
    const [utilization, observedWallMs] = [message.number(), message.number()];
    this.#fed.loads.note(key, { activeClients, errorRate, latencyMs, utilization, observedWallMs }, 0);
  }
}

function policyOf({ set, number, checksum, isPending }: PlainPolicy): Policy {
  if (set === undefined) return NO_POLICY;
  return isPending ? PENDING_POLICY : new Policy(set, number, { checksum });
}
