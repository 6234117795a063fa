/**
 * Selectors of labels in the syntax of Kubernetes (Labels and Selectors, "API"; `labels.Parse` of k8s.io/apimachinery), without its comparisons of
 * numbers:
 *
 *     selector    = requirement *( "," requirement )
 *     requirement = key | "!" key | key ( "=" | "==" | "!=" ) value | key ( "in" | "notin" ) "(" value *( "," value ) ")"
 *
 * Keys and values have the characters `[A-Za-z0-9._:/@+-]`. A value can be empty. Spaces are allowed between the parts.
 */
import { invalid } from "../errors.ts";

/** Returns the value of a label. Undefined if there is no label with the key. */
type LabelReader = (key: string) => string | undefined;

/** Whether labels match a selector. */
export type LabelSelector = (label: LabelReader) => boolean;

const KEY = "[A-Za-z0-9._:/@+-]+";
const VALUE = /^[A-Za-z0-9._:/@+-]*$/;
/** Values are split and checked afterwards, because a pattern for them would need exponential time for some texts. */
const REQUIREMENT = new RegExp(
  String.raw`\s*(?:!\s*(?<absent>${KEY})|(?<key>${KEY})(?:\s*(?<compare>==?|!=)(?<value>[^,()]*)|\s+(?<set>in|notin)\s*\((?<values>[^()]*)\))?)\s*(?<end>,|$)`,
  "y",
);

/** Throws `invalid_argument` for `field`, with the place of the fault. An empty text matches everything. */
export function parseLabelSelector(text: string, field: string): LabelSelector {
  const requirements: LabelSelector[] = [];
  for (let at = 0, isOver = text === ""; !isOver; at = REQUIREMENT.lastIndex) {
    REQUIREMENT.lastIndex = at;
    const groups = REQUIREMENT.exec(text)?.groups;
    const requirement = groups && requirementOf(groups);
    if (requirement === undefined)
      throw invalid(
        field,
        `must be requirements such as rack=7,env!=dev,tier in (a,b),!old; got ${JSON.stringify(text.slice(at, at + 64))}`,
      );
    requirements.push(requirement);
    isOver = groups?.["end"] === "";
  }
  return (label) => requirements.every((matches) => matches(label));
}

type Groups = Readonly<Record<string, string | undefined>>;

/** `!=` and `notin` also match if there is no label with the key, as in Kubernetes. Returns undefined if a value has other characters. */
function requirementOf({ absent, key = "", compare, value = "", set, values }: Groups): LabelSelector | undefined {
  if (absent !== undefined) return (label) => label(absent) === undefined;
  const wanted = new Set((values?.split(",") ?? [value]).map((each) => each.trim()));
  if (![...wanted].every((each) => VALUE.test(each))) return undefined;
  const isIn: LabelSelector = (label) => wanted.has(label(key) ?? NO_LABEL);
  if (compare === "!=" || set === "notin") return (label) => !isIn(label);
  return compare === undefined && set === undefined ? (label) => label(key) !== undefined : isIn;
}

/** Equal to no value of a selector. */
const NO_LABEL = "\0";
