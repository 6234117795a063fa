/** Writes a document as YAML. Strings that contain control characters are quoted, and these characters are escaped. */
import { type CreateNodeOptions, Document, Scalar, type ToStringOptions, visit } from "yaml";
import { hasControlCharacters, visibleJson } from "./visible-text.ts";

/** Characters that are permitted in a block scalar. */
const LAYOUT = /[\n\t]/g;

export function toYaml(json: unknown, options: CreateNodeOptions & ToStringOptions = {}): string {
  const document = new Document(json, options);
  visit(document, {
    Scalar: (_key, node) => {
      if (typeof node.value === "string" && hasControlCharacters(node.value.replaceAll(LAYOUT, ""))) node.type = Scalar.QUOTE_DOUBLE;
    },
  });
  return visibleJson(document.toString(options));
}
