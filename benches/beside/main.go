// A provider with one resource that does nothing, for `cargo bench`: the same schema as no_op.rs.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	provider_schema "github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

type noop struct{}

func (noop) Metadata(_ context.Context, _ provider.MetadataRequest, answer *provider.MetadataResponse) {
	answer.TypeName = "noop"
}
func (noop) Schema(_ context.Context, _ provider.SchemaRequest, answer *provider.SchemaResponse) {
	answer.Schema = provider_schema.Schema{}
}
func (noop) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {}
func (noop) DataSources(context.Context) []func() datasource.DataSource                      { return nil }
func (noop) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{func() resource.Resource { return thing{} }}
}

type thing struct{}

type model struct {
	Name types.String `tfsdk:"name"`
	Size types.Number `tfsdk:"size"`
	Tags types.Map    `tfsdk:"tags"`
	ID   types.String `tfsdk:"id"`
}

func (thing) Metadata(_ context.Context, _ resource.MetadataRequest, answer *resource.MetadataResponse) {
	answer.TypeName = "noop_thing"
}
func (thing) Schema(_ context.Context, _ resource.SchemaRequest, answer *resource.SchemaResponse) {
	answer.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"name": schema.StringAttribute{Required: true},
		"size": schema.NumberAttribute{Optional: true},
		"tags": schema.MapAttribute{Optional: true, ElementType: types.StringType},
		"id":   schema.StringAttribute{Computed: true},
	}}
}

// Read takes the state apart and puts it together again, as a real one does.
func (thing) Read(ctx context.Context, request resource.ReadRequest, answer *resource.ReadResponse) {
	var state model
	answer.Diagnostics.Append(request.State.Get(ctx, &state)...)
	answer.Diagnostics.Append(answer.State.Set(ctx, &state)...)
}
func (thing) Create(context.Context, resource.CreateRequest, *resource.CreateResponse) {}
func (thing) Update(context.Context, resource.UpdateRequest, *resource.UpdateResponse) {}
func (thing) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}

func main() {
	options := providerserver.ServeOpts{Address: "example.test/acme/noop"}
	if err := providerserver.Serve(context.Background(), func() provider.Provider { return noop{} }, options); err != nil {
		log.Fatal(err)
	}
}
