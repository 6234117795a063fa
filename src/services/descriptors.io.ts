/** The descriptors of all protos that a node serves, as `npm run gen` wrote them. */
import { readFileSync } from "node:fs";

/** A `FileDescriptorSet`, with comments. Throws when the file is not where this program was put. */
export function ownDescriptors(): Uint8Array {
  return readFileSync(new URL("../../gen/descriptors.binpb", import.meta.url));
}
