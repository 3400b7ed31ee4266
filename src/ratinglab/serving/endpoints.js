// The endpoints of openapi.json, each with its fields and an example to send.

/** Create an element with properties and children. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const api = await (await fetch("openapi.json")).json();

/** Follow a reference to a named schema. */
const resolved = (schema) => (schema.$ref ? api.components.schemas[schema.$ref.split("/").at(-1)] : schema);

/** Name the type of a schema, such as "list of Pair". */
function typeName(schema) {
  if (schema.$ref) return "object";
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" or ");
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" or ");
  if (schema.const) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeName(schema.items)}`;
  if (schema.type === "object") return `object of ${typeName(schema.additionalProperties ?? { type: "any" })}`;
  return { string: "text", boolean: "true or false" }[schema.type] ?? schema.type ?? "any";
}

/** List the type and the rules of a field. */
function rules(schema, isRequired) {
  const found = [typeName(schema)];
  if (schema.minimum !== undefined) found.push(`at least ${schema.minimum}`);
  if (schema.maximum !== undefined) found.push(`at most ${schema.maximum}`);
  if (isRequired) found.push("must be given");
  else if (schema.default !== undefined) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

/** List the fields of a request, those that must be given first. */
function requestFields(schema) {
  const { properties, required = [] } = resolved(schema);
  return Object.entries(properties).sort(([one], [other]) => required.includes(other) - required.includes(one));
}

/** Describe the fields of an object, and those of the objects in its lists. */
function fieldList(schema, isRequest) {
  const list = element("dl");
  for (const [name, field] of isRequest ? requestFields(schema) : Object.entries(resolved(schema).properties)) {
    const isRequired = isRequest && (resolved(schema).required ?? []).includes(name);
    list.append(element("dt", {}, name, " ", element("small", {}, rules(field, isRequired))));
    const inner = field.$ref ?? field.items?.$ref;
    const described = element("dd", {}, field.description ?? (inner ? resolved({ $ref: inner }).description : ""));
    if (inner) described.append(fieldList({ $ref: inner }, isRequest));
    list.append(described);
  }
  return list;
}

/** Make an example of a request from the examples of its fields: those that must be given, and k. */
function example(schema) {
  const { required } = resolved(schema);
  const shown = requestFields(schema).filter(([name]) => required.includes(name) || name === "k" || name === "why");
  const value = (field) => {
    if (field.examples) return field.examples[0];
    if (field.items) return [example(field.items)];
    return field.default;
  };
  return Object.fromEntries(shown.map(([name, field]) => [name, value(field)]));
}

function endpoint(path, method, operation) {
  const section = element("section", { className: "endpoint" });
  section.append(element("h2", {}, element("span", {}, method.toUpperCase()), ` ${path}`), element("p", {}, operation.summary));
  const request = operation.requestBody?.content["application/json"].schema;
  const response = operation.responses["200"].content["application/json"].schema;
  if (request) section.append(element("h3", {}, "Request"), fieldList(request, true));
  if (operation.parameters) {
    const properties = Object.fromEntries(operation.parameters.map((each) => [each.name, { ...each.schema, description: each.description }]));
    section.append(element("h3", {}, "Request"), fieldList({ properties }, true));
  }
  section.append(element("h3", {}, "Response"), fieldList(response, false), element("h3", {}, "Try it"));
  section.append(...attempt(path, method, request ? JSON.stringify(example(request), null, 2) : null));
  return section;
}

/** Make a field with an example, a button that sends it, and the response. */
function attempt(path, method, body) {
  const relative = path.slice(1);
  const field = body === null
    ? element("input", { type: "text", value: relative === "items" ? "items?query=star&limit=3" : relative, ariaLabel: `Address for ${path}` })
    : element("textarea", { value: body, spellcheck: false, ariaLabel: `Body for ${path}`, rows: body.split("\n").length + 1 });
  const shown = element("pre", { hidden: true, tabIndex: 0, role: "region", ariaLabel: `Response of ${path}`, ariaLive: "polite" });
  const button = element("button", { type: "button", className: "send" }, "Send");
  button.addEventListener("click", async () => {
    const options = body === null ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: field.value };
    try {
      const response = await fetch(body === null ? field.value : relative, options);
      shown.textContent = `${response.status}\n${JSON.stringify(await response.json(), null, 2)}`;
    } catch (error) {
      shown.textContent = String(error);
    }
    shown.hidden = false;
  });
  return [field, button, shown];
}

document.getElementById("description").textContent = api.info.description;
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(methods)) document.getElementById("endpoints").append(endpoint(path, method, operation));
}
