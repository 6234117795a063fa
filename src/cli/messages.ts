/** Messages of the contract as JSON, and their times as text. Only verbs that call a server load this file. */
import { type DescMessage, type JsonObject, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

/** A message as JSON with all of its fields, including fields that are empty, zero or false. */
export function wholeJson<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const json = toJson(schema, message, { alwaysEmitImplicit: true });
  return typeof json !== "object" || json === null || Array.isArray(json) ? {} : json;
}

/** A message as JSON, as `apply` reads it. Top-level lists are present even if they are empty. */
export function messageJson<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const json = toJson(schema, message);
  if (typeof json !== "object" || json === null || Array.isArray(json)) return {};
  for (const field of schema.fields) if (field.fieldKind === "list") json[field.jsonName] ??= [];
  return json;
}

/** RFC 3339 in UTC; empty when absent. */
export function timeText(time: Timestamp | undefined): string {
  return time === undefined ? "" : timestampDate(time).toISOString();
}
