/** Makes JSON schemas (draft 2020-12) of messages in their JSON form, with the bounds of their fields. */
import { type DescEnum, type DescField, type DescMessage, getOption, ScalarType } from "@bufbuild/protobuf";
import { DurationSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type FieldRules, oneof as oneofRules, field as rulesOf } from "../gen/buf/validate/validate_pb.js";
import { FieldBehavior, field_behavior } from "../gen/google/api/field_behavior_pb.js";

export type Schema = Readonly<Record<string, unknown>>;

/** The JSON form of a duration is a number of seconds, whose bounds JSON schema cannot express. */
export const DURATION: Schema = { type: "string", pattern: String.raw`^-?\d+(\.\d{1,9})?s$` };

const WELL_KNOWN: Readonly<Record<string, Schema>> = {
  [DurationSchema.typeName]: { ...DURATION, description: "A number of seconds, such as `1.5s`." },
  [TimestampSchema.typeName]: { type: "string", format: "date-time", description: "A time in UTC, such as `2026-01-31T12:00:00Z`." },
};

/** The schemas of an OpenAPI document. A message that another message contains is a schema of its own. */
export class MessageSchemas {
  readonly #comments: ReadonlyMap<string, string>;
  readonly #named = new Map<string, Schema>();

  /** `comments` has the comments of the protos by full name. */
  constructor(comments: ReadonlyMap<string, string>) {
    this.#comments = comments;
  }

  /** Returns all schemas by the full name of their message or enum, in the order of the names. */
  get named(): Schema {
    return Object.fromEntries([...this.#named].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** Returns a reference to the schema of a message or an enum. */
  reference(desc: DescMessage | DescEnum): Schema {
    if (!this.#named.has(desc.typeName)) {
      this.#named.set(desc.typeName, {}); // A message can contain itself.
      this.#named.set(desc.typeName, desc.kind === "enum" ? this.#enum(desc) : (WELL_KNOWN[desc.typeName] ?? this.message(desc)));
    }
    return { $ref: `#/components/schemas/${desc.typeName}` };
  }

  field(field: DescField): Schema {
    const behaviors = getOption(field, field_behavior);
    return {
      ...this.#value(field),
      ...this.#description(`${field.parent.typeName}.${field.name}`),
      ...(behaviors.includes(FieldBehavior.OUTPUT_ONLY) && { readOnly: true }),
    };
  }

  #description(name: string, ...more: readonly string[]): Schema {
    const description = [this.#comments.get(name) ?? "", ...more].filter((text) => text !== "").join("\n\n");
    return description === "" ? {} : { description };
  }

  /** Returns the schema of a message. `more` are properties in addition to its fields. */
  message({ typeName, fields, oneofs }: DescMessage, more: Schema = {}): Schema {
    const required = fields.filter(isRequired);
    const choices = oneofs.map((each) => {
      const names = each.fields.map(({ jsonName }) => `\`${jsonName}\``).join(", ");
      return `${getOption(each, oneofRules).required ? "Exactly" : "At most"} one of ${names} is set.`;
    });
    return {
      type: "object",
      ...this.#description(typeName, ...choices),
      properties: { ...Object.fromEntries(fields.map((each) => [each.jsonName, this.field(each)])), ...more },
      ...(required.length > 0 && { required: required.map(({ jsonName }) => jsonName) }),
    };
  }

  #enum({ typeName, values }: DescEnum): Schema {
    const meanings = values.map(({ name }) => `- \`${name}\`: ${(this.#comments.get(`${typeName}.${name}`) ?? "").replaceAll("\n", " ")}`);
    return { type: "string", ...this.#description(typeName, meanings.join("\n")), enum: values.map(({ name }) => name) };
  }

  #value(field: DescField): Schema {
    const rules = getOption(field, rulesOf);
    const { type } = rules;
    switch (field.fieldKind) {
      case "scalar":
        return jsonScalar(field.scalar, rules);
      case "enum":
        return this.reference(field.enum);
      case "message":
        return this.reference(field.message);
      case "list": {
        const { minItems, maxItems, unique, items: item } = type.case === "repeated" ? type.value : {};
        const items = field.listKind === "scalar" ? jsonScalar(field.scalar, item) : this.reference(field.enum ?? field.message);
        return {
          type: "array",
          items,
          ...bounds({ minItems: minItems || undefined, maxItems: maxItems || undefined }),
          ...(unique === true && { uniqueItems: true }),
        };
      }
      case "map": {
        const { maxPairs, keys, values } = type.case === "map" ? type.value : {};
        const value = field.mapKind === "scalar" ? jsonScalar(field.scalar, values) : this.reference(field.enum ?? field.message);
        const propertyNames = keys && { propertyNames: scalarSchema(field.mapKey, keys) };
        return { type: "object", additionalProperties: value, ...propertyNames, ...bounds({ maxProperties: maxPairs || undefined }) };
      }
    }
  }
}

export function isRequired(field: DescField): boolean {
  return getOption(field, field_behavior).includes(FieldBehavior.REQUIRED);
}

/** In JSON, numbers of 64 bits are strings, because JavaScript would round them. */
const LONG: Readonly<Partial<Record<ScalarType, Schema>>> = {
  [ScalarType.INT64]: { type: "string", format: "int64", pattern: String.raw`^-?\d+$` },
  [ScalarType.UINT64]: { type: "string", format: "uint64", pattern: String.raw`^\d+$` },
};

function jsonScalar(scalar: ScalarType, rules?: FieldRules): Schema {
  return LONG[scalar] ?? scalarSchema(scalar, rules);
}

/** Returns the schema of a scalar within its bounds. In the rules, a length of 0 means that there is no bound. */
export function scalarSchema(scalar: ScalarType, { type }: Pick<FieldRules, "type"> = { type: { case: undefined } }): Schema {
  if (scalar === ScalarType.BOOL) return { type: "boolean" };
  if (scalar === ScalarType.BYTES) return { type: "string", contentEncoding: "base64" };
  if (scalar === ScalarType.STRING) {
    const { minLen, maxLen, maxBytes, pattern = "" } = type.case === "string" ? type.value : {};
    const lengths = { minLength: minLen || undefined, maxLength: maxLen || maxBytes || undefined };
    return { type: "string", ...bounds(lengths), ...(pattern !== "" && { pattern }) };
  }
  const isBounded = type.case === "uint32" || type.case === "int32" || type.case === "double";
  const { greaterThan: least, lessThan: most } = isBounded ? type.value : {};
  const isUnsigned = scalar === ScalarType.UINT32 || scalar === ScalarType.UINT64;
  const minimum = least?.case === "gte" ? least.value : isUnsigned ? 0 : undefined;
  const maximum = most?.case === "lte" ? most.value : undefined;
  return { type: scalar === ScalarType.DOUBLE ? "number" : "integer", ...bounds({ minimum, maximum }) };
}

function bounds(given: Readonly<Record<string, bigint | number | undefined>>): Schema {
  return Object.fromEntries(Object.entries(given).flatMap(([name, bound]) => (bound === undefined ? [] : [[name, Number(bound)]])));
}
