/** Writes the JSON schema of files that `mesh shards apply` reads, from the message of the contract and the bounds of its fields. */
import { type DescEnum, type DescField, type DescMessage, getOption } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { type FieldRules, field as rulesOf } from "../gen/buf/validate/validate_pb.js";
import { FieldBehavior, field_behavior } from "../gen/google/api/field_behavior_pb.js";
import { ShardService } from "../gen/waymark/control/v1/shard_pb.js";
import { enumWord } from "../src/lib/enum-words.ts";
import { type Schema, scalarSchema } from "./message-schemas.ts";

/** Text of docs/reference/shard-set.schema.json. */
export function shardSetSchema(): string {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "The shards of a namespace, for waymark mesh shards apply",
    ...messageSchema(ShardService.method.apply.input),
  };
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}

function messageSchema({ fields }: DescMessage): Schema {
  const required = fields.filter((each) => getOption(each, field_behavior).includes(FieldBehavior.REQUIRED)).map(({ name }) => name);
  const properties = Object.fromEntries(fields.map((each) => [each.name, fieldSchema(each)]));
  return { type: "object", additionalProperties: false, properties, ...(required.length > 0 && { required }) };
}

function fieldSchema(field: DescField): Schema {
  if (field.fieldKind === "enum") return { enum: enumWords(field.enum) };
  if (field.fieldKind === "scalar") return scalarSchema(field.scalar, getOption(field, rulesOf));
  if (field.fieldKind !== "message") throw new Error(`${field.name}: the schema of a ${field.fieldKind} is not implemented`);
  return field.message.typeName === DurationSchema.typeName ? durationSchema(getOption(field, rulesOf)) : messageSchema(field.message);
}

/** The JSON form of a duration is a number of seconds. JSON schema cannot bound it, so the description has the bounds. */
function durationSchema({ type }: FieldRules): Schema {
  const { greaterThan, lessThan } = type.case === "duration" ? type.value : {};
  if (greaterThan?.case !== "gte" || lessThan?.case !== "lte") throw new Error("a duration has no bounds");
  const description = `${greaterThan.value.seconds}s to ${lessThan.value.seconds}s`;
  return { type: "string", description, pattern: String.raw`^\d+(\.\d{1,9})?s$` };
}

/** Files and query parameters contain the last words of the values. */
export function enumWords({ values, sharedPrefix = "" }: DescEnum): readonly string[] {
  const words: Record<number, string> = Object.fromEntries(values.map(({ number, name }) => [number, name.slice(sharedPrefix.length)]));
  return values.map(({ number }) => enumWord(words, number)).filter((word) => word !== "");
}
