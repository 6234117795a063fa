/** Changes single fields of a finished entry and keeps all other bytes, so that fields from newer versions are preserved. */
import {
  ENTRY_TAG,
  type MaintenanceFields,
  roomCheckState,
  roomMaintenance,
  writeCheckState,
  writeMaintenance,
} from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { takeBytes, WireReader, writeText, writeVarint } from "../../lib/protowire.ts";
import { HEALTH, type Health } from "../record/record.ts";
import { type CheckState, worstOf } from "./checks.ts";

/** Maximum size of a tag with the length of a string up to 16 KiB, or of a tag with a number. */
const HEAD_BYTES = 8;

export function withNode(sealed: Uint8Array, nodeId: string): Uint8Array {
  return withText(sealed, ENTRY_TAG.nodeId, nodeId);
}

export function withRegion(sealed: Uint8Array, region: string): Uint8Array {
  return withText(sealed, ENTRY_TAG.region, region);
}

function withText(sealed: Uint8Array, tag: number, text: string): Uint8Array {
  const field = takeBytes(HEAD_BYTES + 3 * text.length);
  return replaced(sealed, tag, field.subarray(0, writeText(field, writeVarint(field, 0, tag), text)));
}

/** The values that determine the health of an entry. */
export interface HealthInputs {
  /** The health that the client reported. */
  readonly reported: Health;
  /** The results of the entry's checks. */
  readonly states: readonly CheckState[];
  readonly maintenance: MaintenanceFields | undefined;
}

/** Returns the health that readers see. */
export function shownHealth({ reported, states, maintenance }: HealthInputs): Health {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the result is one of the health values that were passed in
  return maintenance === undefined ? (worstOf(reported, states) as Health) : HEALTH.MAINTENANCE;
}

/**
 * Returns the content of an entry, without its tail, in which these health inputs are set. Without checks and maintenance, the bytes are the same as
 * after the client registered the entry.
 */
export function applyHealthInputs(content: Uint8Array, hasChecks: boolean, condition: HealthInputs): Uint8Array {
  const { reported, states, maintenance } = condition;
  const hasReported = hasChecks || maintenance !== undefined;
  const found = takeBytes(
    HEAD_BYTES + states.reduce((size, state) => size + HEAD_BYTES + roomCheckState({ lastHealth: HEALTH.UNSET, ...state }), 0),
  );
  let at = 0;
  for (const state of states) at = writeCheckState(found, at, ENTRY_TAG.checkStates, { lastHealth: HEALTH.UNSET, ...state });
  const shown = replaced(content, ENTRY_TAG.health, numberField(ENTRY_TAG.health, shownHealth(condition)));
  const withReport = replaced(shown, ENTRY_TAG.reportedHealth, hasReported ? numberField(ENTRY_TAG.reportedHealth, reported) : NOTHING);
  const checked = replaced(withReport, ENTRY_TAG.checkStates, found.subarray(0, at));
  return replaced(checked, ENTRY_TAG.maintenance, maintenance === undefined ? NOTHING : maintenanceField(maintenance));
}

const NOTHING = new Uint8Array();

function maintenanceField(maintenance: MaintenanceFields): Uint8Array {
  const field = takeBytes(HEAD_BYTES + roomMaintenance(maintenance));
  return field.subarray(0, writeMaintenance(field, 0, ENTRY_TAG.maintenance, maintenance));
}

function numberField(tag: number, value: number): Uint8Array {
  const field = takeBytes(HEAD_BYTES);
  return field.subarray(0, writeVarint(field, writeVarint(field, 0, tag), value));
}

/**
 * Replaces the first field that has this tag, or inserts the field before the first field with a higher tag, in the same order as Waymark's encoder.
 * Any other fields with this tag are removed. If `field` is empty, all fields with the tag are removed.
 */
function replaced(sealed: Uint8Array, tag: number, field: Uint8Array): Uint8Array {
  const out = takeBytes(sealed.length + field.length);
  const reader = new WireReader(sealed);
  let size = 0;
  let isPut = false;
  while (!reader.isDone()) {
    const from = reader.at;
    const found = reader.tag();
    reader.skip(found);
    if (!isPut && found >= tag) {
      out.set(field, size);
      size += field.length;
      isPut = true;
    }
    if (found === tag) continue;
    out.set(sealed.subarray(from, reader.at), size);
    size += reader.at - from;
  }
  if (!isPut) {
    out.set(field, size);
    size += field.length;
  }
  return out.subarray(0, size);
}
