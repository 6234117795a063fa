/** Converts messages of the contract to JSON, and their times to text. Only verbs that call a server load this file. */
import { type DescMessage, type JsonObject, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

/** Converts a message to JSON with all fields, including fields that are empty, zero or false. */
export function wholeJson<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const json = toJson(schema, message, { alwaysEmitImplicit: true });
  return typeof json !== "object" || json === null || Array.isArray(json) ? {} : json;
}

/** Converts a message to JSON in the form that `apply` reads. Top-level lists are present even if they are empty. */
export function messageJson<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const json = toJson(schema, message);
  if (typeof json !== "object" || json === null || Array.isArray(json)) return {};
  for (const field of schema.fields) if (field.fieldKind === "list") json[field.jsonName] ??= [];
  return json;
}

/** Formats a time according to RFC 3339 in UTC. Returns an empty string if the time is absent. */
export function timeText(time: Timestamp | undefined): string {
  return time === undefined ? "" : timestampDate(time).toISOString();
}
