/** Messages as the documents that commands print. */
import { type DescMessage, type JsonObject, type MessageShape, toJson } from "@bufbuild/protobuf";

/** A message as JSON with every field there, also those that are empty, zero or false. */
export function wholeJson<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const json = toJson(schema, message, { alwaysEmitImplicit: true });
  return typeof json !== "object" || json === null || Array.isArray(json) ? {} : json;
}

/** A message as JSON, as `apply` reads it; top-level lists are there even when empty. */
export function messageJson<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const json = toJson(schema, message);
  if (typeof json !== "object" || json === null || Array.isArray(json)) return {};
  for (const field of schema.fields) if (field.fieldKind === "list") json[field.jsonName] ??= [];
  return json;
}
