/** Where a source could be wrong by one line: comparisons, conditions, numbers, statements and arguments, found by a parser. */
import { parseAst } from "vitest/node";

/** One change of one line. */
export interface Fault {
  readonly file: string;
  readonly line: number;
  /** What kind of slip it is. */
  readonly kind: string;
  readonly start: number;
  readonly end: number;
  readonly before: string;
  readonly after: string;
}

/** Of the parser's tree, what is looked at here. */
interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [field: string]: unknown;
}

type Found = Pick<Fault, "kind" | "start" | "end" | "after">;

const OTHER_OPERATOR: Readonly<Record<string, string>> = {
  "<": "<=",
  "<=": "<",
  ">": ">=",
  ">=": ">",
  "===": "!==",
  "!==": "===",
  "+": "-",
  "-": "+",
  "&&": "||",
  "||": "&&",
  "+=": "-=",
  "-=": "+=",
  "++": "--",
  "--": "++",
};

/** Every fault of a file, in its order. */
export function faultsIn(file: string, text: string): readonly Fault[] {
  const found: Found[] = [];
  visit(parseAst(text, { lang: "ts" }) as unknown as Node, text, found, true);
  return found
    .filter(({ start, end, after }) => !text.slice(start, end).includes("\n") && text.slice(start, end) !== after)
    .map((fault) => ({ ...fault, file, line: lineAt(text, fault.start), before: text.slice(fault.start, fault.end) }))
    .toSorted((a, b) => a.start - b.start || a.end - b.end);
}

/** The source with the fault in it. */
export function plant(text: string, { start, end, after }: Pick<Fault, "start" | "end" | "after">): string {
  return text.slice(0, start) + after + text.slice(end);
}

function visit(node: Node, text: string, found: Found[], isTop: boolean): void {
  // Types are not run; what is imported and how long a bound of a file is are no slips.
  if (node.type.startsWith("TS") && !VALUES.has(node.type)) return;
  if (node.type === "ImportDeclaration" || (isTop && isConstant(node))) return;
  found.push(...faultsOf(node, text));
  for (const child of childrenOf(node)) visit(child, text, found, isTop && TOPS.has(node.type));
}

/** Nodes of types that have a value in them. */
const VALUES = new Set(["TSAsExpression", "TSNonNullExpression", "TSSatisfiesExpression"]);
const TOPS = new Set(["Program", "ExportNamedDeclaration"]);

/** A number or table at the top of a file: another size is another setting, not a slip. */
function isConstant({ type, kind, declarations }: Node): boolean {
  if (type !== "VariableDeclaration" || kind !== "const" || !Array.isArray(declarations)) return false;
  return !(declarations as readonly Node[]).some(({ init }) => isNode(init) && init.type.includes("Function"));
}

function faultsOf(node: Node, text: string): readonly Found[] {
  const of = (part: Node) => text.slice(part.start, part.end);
  switch (node.type) {
    case "BinaryExpression":
    case "LogicalExpression":
    case "AssignmentExpression":
      return operatorFaults(node, text);
    case "UpdateExpression":
      return [{ kind: "operator", start: node.start, end: node.end, after: of(node).replace(/\+\+|--/, (op) => OTHER_OPERATOR[op] ?? op) }];
    case "UnaryExpression":
      return node["operator"] === "!"
        ? [{ kind: "negation dropped", start: node.start, end: node.end, after: of(childOf(node, "argument")) }]
        : [];
    case "IfStatement":
    case "WhileStatement":
    case "ConditionalExpression":
      return conditionFaults(node, of);
    case "ExpressionStatement":
      return isAction(childOf(node, "expression")) ? [{ kind: "statement dropped", start: node.start, end: node.end, after: ";" }] : [];
    case "Literal":
      return literalFaults(node);
    case "CallExpression":
    case "NewExpression":
      return callFaults(node, of);
    default:
      return [];
  }
}

function operatorFaults(node: Node, text: string): readonly Found[] {
  const [left, right, operator] = [childOf(node, "left"), childOf(node, "right"), String(node["operator"])];
  const other = OTHER_OPERATOR[operator];
  const faults: Found[] = [];
  const at = text.indexOf(operator, left.end);
  const isText = [left, right].some(({ type, value }) => type === "TemplateLiteral" || typeof value === "string");
  if (other !== undefined && !(isText && (operator === "+" || operator === "+=")))
    faults.push({ kind: "operator", start: at, end: at + operator.length, after: other });
  if (node.type !== "LogicalExpression" || operator === "??") return faults;
  // Parentheses around a part stay, whole: `a && (b || c)`.
  faults.push({ kind: "condition dropped", start: node.start, end: node.end, after: text.slice(node.start, at).trim() });
  faults.push({ kind: "condition dropped", start: node.start, end: node.end, after: text.slice(at + operator.length, node.end).trim() });
  return faults;
}

function conditionFaults(node: Node, of: (part: Node) => string): readonly Found[] {
  const test = childOf(node, "test");
  const faults: Found[] = [];
  // Those of one comparison are negated by its operator, or by what is left of `!x`.
  if (!/^[!=]==$/.test(String(test["operator"])) && test["operator"] !== "!")
    faults.push({ kind: "condition negated", start: test.start, end: test.end, after: `!(${of(test)})` });
  const { consequent, alternate } = node;
  const isGuard = node.type === "IfStatement" && !isNode(alternate) && isNode(consequent) && JUMPS.has(consequent.type);
  if (isGuard) faults.push({ kind: "guard dropped", start: node.start, end: node.end, after: ";" });
  return faults;
}

const JUMPS = new Set(["ReturnStatement", "ContinueStatement", "BreakStatement", "ThrowStatement"]);

function literalFaults({ value, start, end }: Node): readonly Found[] {
  if (typeof value === "boolean") return [{ kind: "truth flipped", start, end, after: String(!value) }];
  return typeof value === "number" ? [{ kind: "off by one", start, end, after: String(value + 1) }] : [];
}

function callFaults(node: Node, of: (part: Node) => string): readonly Found[] {
  const callee = of(childOf(node, "callee"));
  const faults: Found[] = [];
  const other = callee === "Math.max" ? "Math.min" : callee === "Math.min" ? "Math.max" : undefined;
  if (other !== undefined) faults.push({ kind: "other end", start: node.start, end: node.start + callee.length, after: other });
  const given = Array.isArray(node["arguments"]) ? (node["arguments"] as readonly Node[]) : [];
  // Of these the order is all the same.
  if (other !== undefined) return faults;
  for (let i = 1; i < given.length; i++) {
    const [a, b] = [given[i - 1], given[i]];
    if (a === undefined || b === undefined || FUNCTIONS.has(a.type) || FUNCTIONS.has(b.type)) continue;
    const between = of({ ...a, start: a.end, end: b.start });
    faults.push({ kind: "arguments swapped", start: a.start, end: b.end, after: of(b) + between + of(a) });
  }
  return faults;
}

const FUNCTIONS = new Set(["ArrowFunctionExpression", "FunctionExpression"]);

/** Whether leaving it out changes what happens; what makes an object whole (`super`) and what only checks ourselves is left. */
function isAction(expression: Node): boolean {
  if (expression.type === "AwaitExpression") return isAction(childOf(expression, "argument"));
  if (expression.type !== "CallExpression") return expression.type === "AssignmentExpression" || expression.type === "UpdateExpression";
  const callee = childOf(expression, "callee");
  return callee.type !== "Super" && callee["name"] !== "assert";
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && "start" in value;
}

function childOf(node: Node, field: string): Node {
  const child = node[field];
  if (!isNode(child)) throw new Error(`${node.type} has no ${field}`);
  return child;
}

function childrenOf(node: Node): readonly Node[] {
  return Object.values(node).flatMap((value) => (Array.isArray(value) ? value : [value]).filter(isNode));
}

function lineAt(text: string, at: number): number {
  return text.slice(0, at).split("\n").length;
}
