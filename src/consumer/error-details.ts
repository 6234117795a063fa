/** Reads the details of a failed call. They may be forged or damaged, so details that cannot be decoded are ignored. */
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";

/** Decodes a detail. Returns undefined for a detail of another type or bytes that cannot be decoded. */
export function unpackDetail<D extends DescMessage>(detail: Any, schema: D): MessageShape<D> | undefined {
  try {
    return anyUnpack(detail, schema);
  } catch {
    return undefined;
  }
}

/** Finds a message among the details. Returns undefined for bytes that are absent or cannot be decoded. */
export function findMessage<D extends DescMessage>(bytes: Uint8Array | undefined, schema: D): MessageShape<D> | undefined {
  if (bytes === undefined) return undefined;
  try {
    return fromBinary(schema, bytes);
  } catch {
    return undefined;
  }
}
