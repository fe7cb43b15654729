process BMZ_RUN {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "bmz:0.1.0"

    input:
    tuple val(meta), path(image)
    val model

    output:
    tuple val(meta), path("${prefix}/*.labels.{tif,ome.zarr}")     , emit: labels
    tuple val(meta), path("${prefix}/*.objects.csv")               , emit: table   , optional: true
    tuple val(meta), path("${prefix}/*.overlay.png")               , emit: overlay , optional: true
    tuple val(meta), path("${prefix}/*.run.json")                  , emit: record
    tuple val(meta), path("${prefix}/*.{rois.zip,geojson,coco.json}"), emit: outlines, optional: true
    tuple val("${task.process}"), val('bmz'), eval("bmz --version | sed 's/.* //'"), topic: versions, emit: versions_bmz

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    bmz run \\
        '${model}' \\
        '${image}' \\
        --output '${prefix}' \\
        $args
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo $args
    mkdir '${prefix}'
    touch '${prefix}/${prefix}.labels.tif' '${prefix}/${prefix}.objects.csv'
    touch '${prefix}/${prefix}.overlay.png' '${prefix}/${prefix}.run.json'
    """
}
