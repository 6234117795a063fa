/** The API reference page, from the descriptor set that reflection serves: what the protos say, in the order they say it. */
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

/** How a proto's comment says of an rpc, a service or a package that it is not built yet. */
const LATER = "Comes with a later version";

// Field numbers in descriptor.proto, which is how source positions name what they belong to.
const [PACKAGE, MESSAGES, ENUMS, SERVICES] = [2, 4, 5, 6];
const [FIELDS, NESTED, NESTED_ENUMS, VALUES, METHODS] = [2, 3, 4, 2, 2];

/** Comments by position: `6,0,2,1` is the second method of the first service. */
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

const ABOUT = `Every service below is served by gRPC (with reflection) and, at the HTTP edge, as Connect/JSON at
\`/<package>.<Service>/<Rpc>\`, except \`FabricService\`, which only other nodes speak. An rpc marked **later** answers
\`UNIMPLEMENTED\` with an \`ErrorInfo\` of reason \`UNIMPLEMENTED\`. *Needs* is the role a caller must have, as the proto's option
\`(waymark.options.v1.access)\` says and the server enforces: \`mesh.admin\` has \`mesh.operate\`, which has \`mesh.read\`. What names no
role is still under the namespace policy. Who has roles is in the [identity guide](../guides/identity.md).`;

/** Discovery first: it is what nearly every reader came for. */
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
      const said = comment(comments, [SERVICES, i, METHODS, j]);
      const isLater = [said, comment(comments, [SERVICES, i]), comment(comments, [PACKAGE])].some((text) => text.includes(LATER));
      return [`\`${method.name}\``, signature(method), needs(method), isLater ? `**later** ${said.replace(` ${LATER}.`, "")}` : said];
    });
    return `### ${service.name}\n\n${comment(comments, [SERVICES, i])}\n\n${table(["rpc", "request → response", "needs", "what it does"], rows)}`;
  });
  const messages = file.messageType.flatMap((message, i) => messageSections(message, [MESSAGES, i], comments, message.name));
  const enums = file.enumType.map((each, i) => enumSection(each, [ENUMS, i], comments, each.name));
  return [...services, ...messages, ...enums].join("\n\n");
}

function signature(method: MethodDescriptorProto): string {
  const [input, output] = [short(method.inputType), short(method.outputType)];
  return `${method.clientStreaming ? "stream " : ""}\`${input}\` → ${method.serverStreaming ? "stream " : ""}\`${output}\``;
}

/** The role an rpc asks for beside policy, as its option says. */
function needs({ options }: MethodDescriptorProto): string {
  const need = options === undefined ? undefined : getExtension(options, access);
  if (need === undefined || need.role === Role.NONE) return "–";
  const owner = need.ownerOf === "" ? "" : ` or \`owner:…\` of its \`${need.ownerOf}\``;
  const any = need.anyOwner ? " or `owner:…` of all it touches" : "";
  return `\`${roleWord(need.role)}\`${owner}${any}`;
}

/** `MESH_READ` → `mesh.read`, as settings and credentials have it. */
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

/** What a field's option says of it, as words: `Output only.` */
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

Every refusal is a gRPC status with a \`google.rpc.ErrorInfo\` of domain \`waymark\`; the message starts with the lower-case
reason. Match the reason, never the text.

${table(["reason", "ErrorInfo.reason", "code"], rows)}`;
}
