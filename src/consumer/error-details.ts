/** The details of a failed call. A stranger may have written them, or they were damaged on the way: what does not decode is as if it were not there. */
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";

/** Undefined for a detail of another type, and for one whose bytes do not decode. */
export function unpackDetail<D extends DescMessage>(detail: Any, schema: D): MessageShape<D> | undefined {
  try {
    return anyUnpack(detail, schema);
  } catch {
    return undefined;
  }
}

/** Undefined for absent bytes, and for bytes that do not decode. */
export function findMessage<D extends DescMessage>(bytes: Uint8Array | undefined, schema: D): MessageShape<D> | undefined {
  if (bytes === undefined) return undefined;
  try {
    return fromBinary(schema, bytes);
  } catch {
    return undefined;
  }
}
