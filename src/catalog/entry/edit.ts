/** Changes single fields of a finished entry and keeps every other byte, so that fields of newer versions survive. */
import { type CheckStateFields, ENTRY_TAG, roomCheckState, writeCheckState } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { takeBytes, WireReader, writeText, writeVarint } from "../../lib/protowire.ts";
import type { Health } from "../record/record.ts";
import { worstOf } from "./checks.ts";

/** Tag and length of a text of at most 16 KiB, or tag and value of a number. */
const HEAD_BYTES = 8;

export function withNode(sealed: Uint8Array, nodeId: string): Uint8Array {
  const field = takeBytes(HEAD_BYTES + 3 * nodeId.length);
  return replaced(sealed, ENTRY_TAG.nodeId, field.subarray(0, writeText(field, writeVarint(field, 0, ENTRY_TAG.nodeId), nodeId)));
}

export function withHealth(sealed: Uint8Array, health: Health): Uint8Array {
  return replaced(sealed, ENTRY_TAG.health, numberField(ENTRY_TAG.health, health));
}

/** The content of an entry, without its tail, with what its client reports, what its checks have found, and the health that comes of both. */
export function withCheckStates(content: Uint8Array, reported: Health, states: readonly CheckStateFields[]): Uint8Array {
  const shown = numberField(ENTRY_TAG.health, worstOf(reported, states));
  const told = numberField(ENTRY_TAG.reportedHealth, reported);
  const found = takeBytes(HEAD_BYTES + states.reduce((size, state) => size + HEAD_BYTES + roomCheckState(state), 0));
  let at = 0;
  for (const state of states) at = writeCheckState(found, at, ENTRY_TAG.checkStates, state);
  const both = replaced(replaced(content, ENTRY_TAG.health, shown), ENTRY_TAG.reportedHealth, told);
  return replaced(both, ENTRY_TAG.checkStates, found.subarray(0, at));
}

function numberField(tag: number, value: number): Uint8Array {
  const field = takeBytes(HEAD_BYTES);
  return field.subarray(0, writeVarint(field, writeVarint(field, 0, tag), value));
}

/**
 * Puts the field in the place of the first field with its number, or before the first field with a higher number, as our encoder would. Of
 * repeated fields with one number the last one counts.
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
