/** Writes the API reference page from the descriptor set that reflection serves: the comments of the protos, in their order. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary, getExtension } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
  type MethodDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { FieldBehavior, field_behavior } from "../gen/google/api/field_behavior_pb.js";
import { access, Role } from "../gen/waymark/options/v1/options_pb.js";
import { codeName, REASONS } from "../src/lib/errors.ts";
import { oneLine, page, table } from "./docs-tables.ts";
import { ROOT } from "./run.ts";

/** Marks an rpc, a service or a package as not implemented yet, in its comment. */
const LATER = "Comes with a later version";

// Field numbers in descriptor.proto. The paths of source locations consist of them.
const [PACKAGE, MESSAGES, ENUMS, SERVICES] = [2, 4, 5, 6];
const [FIELDS, NESTED, NESTED_ENUMS, VALUES, METHODS] = [2, 3, 4, 2, 2];

/** Comments by path: `6,0,2,1` is the second method of the first service. */
type Comments = ReadonlyMap<string, string>;

/** Text of docs/reference/api.md. */
export function apiPage(): string {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(join(ROOT, "gen/descriptors.binpb")));
  const files = set.file
    .filter((file) => file.package.startsWith("waymark."))
    .toSorted((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
  const packages = [...new Set(files.map((file) => file.package))];
  const sections = packages.map((name) => packageSection(name, files));
  return page("API", "the protos in `proto/`", [ABOUT, ...sections, reasonsSection()].join("\n\n"));
}

const ABOUT = `Servers offer every service on this page over gRPC (with reflection). The HTTP edge offers them as Connect/JSON at
\`/<package>.<Service>/<Rpc>\`, except \`FabricService\`, which only nodes call. An rpc marked **later** is not implemented yet: it
fails with \`UNIMPLEMENTED\` and an \`ErrorInfo\` of reason \`UNIMPLEMENTED\`. The column *needs* has the role that the caller must have.
The proto option \`(waymark.options.v1.access)\` declares it, and the server enforces it. \`mesh.admin\` includes \`mesh.operate\`, which
includes \`mesh.read\`. The namespace policy also applies to an rpc that needs no role. The [identity guide](../guides/identity.md)
describes how callers get roles.`;

/** Discovery comes first, because most readers look for it. */
function rank(file: FileDescriptorProto): number {
  const order = ["discovery", "catalog", "policy", "control", "resolver", "dns", "fabric", "options"];
  const at = order.indexOf(file.package.split(".")[1] ?? "");
  return at < 0 ? order.length : at;
}

function packageSection(name: string, files: readonly FileDescriptorProto[]): string {
  const own = files.filter((file) => file.package === name).map((file) => fileSection(file, commentsOf(file)));
  const about = files
    .filter((file) => file.package === name)
    .map((file) => comment(commentsOf(file), [PACKAGE]))
    .filter((text) => text !== "");
  return [`## ${name}`, ...about, ...own].join("\n\n");
}

function fileSection(file: FileDescriptorProto, comments: Comments): string {
  const services = file.service.map((service, i) => {
    const rows = service.method.map((method, j) => {
      const about = comment(comments, [SERVICES, i, METHODS, j]);
      const isLater = [about, comment(comments, [SERVICES, i]), comment(comments, [PACKAGE])].some((text) => text.includes(LATER));
      return [`\`${method.name}\``, signature(method), needs(method), isLater ? `**later** ${about.replace(` ${LATER}.`, "")}` : about];
    });
    return `### ${service.name}\n\n${comment(comments, [SERVICES, i])}\n\n${table(["rpc", "request → response", "needs", "description"], rows)}`;
  });
  const messages = file.messageType.flatMap((message, i) => messageSections(message, [MESSAGES, i], comments, message.name));
  const enums = file.enumType.map((each, i) => enumSection(each, [ENUMS, i], comments, each.name));
  return [...services, ...messages, ...enums].join("\n\n");
}

function signature(method: MethodDescriptorProto): string {
  const [input, output] = [short(method.inputType), short(method.outputType)];
  return `${method.clientStreaming ? "stream " : ""}\`${input}\` → ${method.serverStreaming ? "stream " : ""}\`${output}\``;
}

/** The role that an rpc requires in addition to the policy, from its option. */
function needs({ options }: MethodDescriptorProto): string {
  const need = options === undefined ? undefined : getExtension(options, access);
  if (need === undefined || need.role === Role.NONE) return "–";
  const owner = need.ownerOf === "" ? "" : ` or \`owner:…\` of its \`${need.ownerOf}\``;
  const any = need.anyOwner ? " or `owner:…` of every changed namespace" : "";
  return `\`${roleWord(need.role)}\`${owner}${any}`;
}

/** `MESH_READ` → `mesh.read`, the form in settings and credentials. */
function roleWord(role: Role): string {
  return (Role[role] ?? "").toLowerCase().replace("_", ".");
}

function messageSections(message: DescriptorProto, path: readonly number[], comments: Comments, name: string): readonly string[] {
  if (message.options?.mapEntry === true) return [];
  const rows = message.field.map((field, i) => [
    `\`${field.name}\``,
    String(field.number),
    typeName(field, message),
    [...behaviors(field), comment(comments, [...path, FIELDS, i])].join(" "),
  ]);
  const fields = rows.length === 0 ? "No fields." : table(["field", "no", "type", "meaning"], rows);
  return [
    `#### ${name}\n\n${comment(comments, path)}\n\n${fields}`,
    ...message.nestedType.flatMap((each, i) => messageSections(each, [...path, NESTED, i], comments, `${name}.${each.name}`)),
    ...message.enumType.map((each, i) => enumSection(each, [...path, NESTED_ENUMS, i], comments, `${name}.${each.name}`)),
  ];
}

/** The behaviors in a field's option, as text: `Output only.` */
function behaviors({ options }: FieldDescriptorProto): readonly string[] {
  if (options === undefined) return [];
  return getExtension(options, field_behavior).map((each) => {
    const words = (FieldBehavior[each] ?? "").toLowerCase().replaceAll("_", " ");
    return `*${words.slice(0, 1).toUpperCase()}${words.slice(1)}.*`;
  });
}

function enumSection(each: EnumDescriptorProto, path: readonly number[], comments: Comments, name: string): string {
  const rows = each.value.map((value, i) => [`\`${value.name}\``, String(value.number), comment(comments, [...path, VALUES, i])]);
  return `#### ${name}\n\n${comment(comments, path)}\n\n${table(["value", "no", "meaning"], rows)}`;
}

function typeName(field: FieldDescriptorProto, owner: DescriptorProto): string {
  const entry = owner.nestedType.find(
    (nested) => nested.options?.mapEntry === true && field.typeName.endsWith(`.${owner.name}.${nested.name}`),
  );
  if (entry !== undefined) {
    const [key, value] = entry.field;
    return key === undefined || value === undefined ? "map" : `map of ${typeName(key, entry)} to ${typeName(value, entry)}`;
  }
  const base = field.typeName === "" ? FieldDescriptorProto_Type[field.type].toLowerCase() : `\`${short(field.typeName)}\``;
  if (field.label === FieldDescriptorProto_Label.REPEATED) return `repeated ${base}`;
  return field.proto3Optional ? `optional ${base}` : base;
}

/** `.waymark.catalog.v1.Entry` → `Entry`; well-known types keep their package. */
function short(full: string): string {
  return full.replace(/^\./, "").replace(/^waymark\.\w+\.v1\./, "");
}

function commentsOf(file: FileDescriptorProto): Comments {
  return new Map(
    (file.sourceCodeInfo?.location ?? []).map((each) => [each.path.join(","), oneLine(each.leadingComments || each.trailingComments)]),
  );
}

function comment(comments: Comments, path: readonly number[]): string {
  return comments.get(path.join(",")) ?? "";
}

function reasonsSection(): string {
  const rows = Object.entries(REASONS).map(([reason, code]) => [
    `\`${reason}\``,
    `\`${reason.toUpperCase()}\``,
    `${codeName(code)} (${code})`,
  ]);
  return `## Reasons

Every error is a gRPC status with a \`google.rpc.ErrorInfo\` of domain \`waymark\`. The message starts with the reason in lower
case. Programs must match the reason, because the text of a message can change.

${table(["reason", "ErrorInfo.reason", "code"], rows)}`;
}
