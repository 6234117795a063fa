/** YAML of a document. Texts with characters that a terminal would obey are quoted, with these characters as escapes. */
import { Document, Scalar, visit } from "yaml";
import { isObeyed, visibleJson } from "./visible-text.ts";

/** Characters that a block of several lines may have. */
const LAYOUT = /[\n\t]/g;

export function toYaml(json: unknown): string {
  const document = new Document(json);
  visit(document, {
    Scalar: (_key, node) => {
      if (typeof node.value === "string" && isObeyed(node.value.replaceAll(LAYOUT, ""))) node.type = Scalar.QUOTE_DOUBLE;
    },
  });
  return visibleJson(document.toString());
}
