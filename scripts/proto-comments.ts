/** Finds the comments of the protos in the descriptor set that reflection serves. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type DescMessage, fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ROOT } from "./run.ts";

/** Maps the full name of a message, field, enum, value, service or rpc to its comment. */
export function protoComments(): ReadonlyMap<string, string> {
  const { file: files } = fromBinary(FileDescriptorSetSchema, readFileSync(join(ROOT, "gen/descriptors.binpb")));
  return new Map(
    files.flatMap((file) =>
      (file.sourceCodeInfo?.location ?? []).map(({ path, leadingComments, trailingComments }): [string, string] => {
        const text = leadingComments || trailingComments;
        return [nameAt(file, path), text.replaceAll(/^ /gm, "").trim()];
      }),
    ),
  );
}

/** A path consists of pairs: the number of a repeated field of a descriptor, and the index of its item (descriptor.proto, `SourceCodeInfo`). */
function nameAt(file: FileDescriptorProto, path: readonly number[]): string {
  const names = [file.package];
  let desc: DescMessage = FileDescriptorProtoSchema;
  let value: unknown = file;
  for (let at = 0; at < path.length; at += 2) {
    const field = desc.fields.find(({ number }) => number === path[at]);
    if (field?.message === undefined || path[at + 1] === undefined) return "";
    desc = field.message;
    value = Reflect.get(Object(Reflect.get(Object(value), field.localName)), path[at + 1] ?? 0);
    names.push(String(Reflect.get(Object(value), "name")));
  }
  return names.join(".");
}
